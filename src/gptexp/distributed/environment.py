"""Which of several processes this one is, as torchrun, SLURM or our own parent say in the environment."""

import os
from dataclasses import dataclass
from typing import Self

from gptexp.errors import UserError


@dataclass(frozen=True)
class ProcessInfo:
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def found(cls) -> Self:
        """One process, where nobody says otherwise."""
        env = os.environ
        if "RANK" in env:
            if missing := {"WORLD_SIZE", "LOCAL_RANK"} - set(env):
                raise UserError(
                    f"RANK is in the environment without {' and '.join(sorted(missing))}: start with torchrun"
                )
            size = int(env["WORLD_SIZE"])
            return cls(
                int(env["RANK"]),
                size,
                int(env["LOCAL_RANK"]),
                int(env.get("LOCAL_WORLD_SIZE", size)),
            )
        if is_under_slurm():
            size, nodes = int(env["SLURM_NTASKS"]), int(env.get("SLURM_NNODES", "1"))
            return cls(int(env["SLURM_PROCID"]), size, int(env["SLURM_LOCALID"]), size // nodes)
        return cls()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def nodes(self) -> int:
        return self.size // self.local_size


def is_under_slurm() -> bool:
    """Whether srun has started this process as one of several; a batch script's own shell is not meant."""
    return "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def is_launched() -> bool:
    return "RANK" in os.environ or is_under_slurm()
