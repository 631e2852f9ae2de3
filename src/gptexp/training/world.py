"""The processes of a run: which of them this one is, and what they tell each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment
from torch import Tensor

Value = TypeVar("Value")
SILENCE = timedelta(minutes=30)  # a rank that says nothing for so long counts as lost


def is_launched() -> bool:
    """Whether torchrun, SLURM or our own parent has started this process as one of several."""
    return "RANK" in os.environ or _in_slurm()


def _in_slurm() -> bool:
    return SLURMEnvironment.detect() and int(os.environ.get("SLURM_NTASKS", "1")) > 1


@dataclass(frozen=True)
class World:
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def found(cls) -> World:
        """What torchrun, SLURM or our own parent has put into the environment; else one process."""
        env = os.environ
        if "RANK" in env:
            size = int(env["WORLD_SIZE"])
            return cls(int(env["RANK"]), size, int(env["LOCAL_RANK"]), int(env.get("LOCAL_WORLD_SIZE", size)))
        if _in_slurm():
            size, nodes = int(env["SLURM_NTASKS"]), int(env.get("SLURM_NNODES", "1"))
            return cls(int(env["SLURM_PROCID"]), size, int(env["SLURM_LOCALID"]), size // nodes)
        return cls()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def nodes(self) -> int:
        return self.size // self.local_size

    def join(self, device: torch.device) -> None:
        """Meet the other processes; does nothing where there are none."""
        if self.size == 1 or dist.is_initialized():
            return
        if "RANK" not in os.environ:
            slurm = SLURMEnvironment(auto_requeue=False)
            os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)
        if device.type == "cuda":
            torch.cuda.set_device(self.local_rank)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=self.rank, world_size=self.size, timeout=SILENCE)

    def leave(self) -> None:
        if dist.is_initialized():  # left to the interpreter's exit, gloo's threads may abort the process
            dist.destroy_process_group()

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def from_first(self, value: Value) -> Value:
        """The first rank's value, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, value: Value) -> list[Value]:
        """The values of all ranks, in their order."""
        if self.size == 1:
            return [value]
        boxes: list[Any] = [None] * self.size
        dist.all_gather_object(boxes, value)
        return boxes

    def summed(self, tensor: Tensor) -> Tensor:
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor
