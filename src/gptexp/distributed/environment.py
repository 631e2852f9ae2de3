"""Rank and size of this process, read from the environment of torchrun, SLURM or our own launcher."""

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
    def from_env(cls) -> Self:
        """Read RANK and its companions, or SLURM's variables; without either, this is the only process.

        Raises:
            UserError: RANK is set without WORLD_SIZE or LOCAL_RANK.
        """
        env = os.environ
        if "RANK" in env:
            if missing := {"WORLD_SIZE", "LOCAL_RANK"} - set(env):
                raise UserError(
                    f"the environment has RANK without {' and '.join(sorted(missing))}: "
                    f"start the command with torchrun, or unset RANK"
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
    def is_rank_zero(self) -> bool:
        return self.rank == 0

    @property
    def nodes(self) -> int:
        return self.size // self.local_size


def is_under_slurm() -> bool:
    """Return whether srun started this process as one of several; the shell of a batch script does not count."""
    return "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def is_launched() -> bool:
    """Return whether a launcher (ours, torchrun or srun) started this process as one rank."""
    return "RANK" in os.environ or is_under_slurm()
