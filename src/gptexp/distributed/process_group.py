"""The processes of a run, and what they tell each other."""

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment
from torch import Tensor

from gptexp.distributed.environment import ProcessInfo
from gptexp.errors import RunError, UserError

Value = TypeVar("Value")
TIMEOUT = timedelta(minutes=30)  # a rank that says nothing for so long counts as lost
GRACE = 20.0  # seconds that a rank which was stopped waits for the others


@dataclass(frozen=True)
class ProcessGroup(ProcessInfo):
    def join(self, device: torch.device) -> None:
        """Meet the other processes; does nothing where there are none."""
        if self.size == 1 or dist.is_initialized():
            return
        if "RANK" not in os.environ:
            slurm = SLURMEnvironment(auto_requeue=False)
            os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = (
                slurm.main_address,
                str(slurm.main_port),
            )
        if device.type == "cuda":
            torch.cuda.set_device(self.local_rank)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=self.rank, world_size=self.size, timeout=TIMEOUT)

    @staticmethod
    def end(code: int = 0) -> None:
        """End this process, whose work is done and written, together with the others; returns where it is alone.

        Without the interpreter's own exit: gloo's threads may abort the process in it, and it then counts as failed.
        """
        if dist.is_initialized():
            if code:  # the others may wait for something else, and never come to this barrier
                threading.Timer(GRACE, os._exit, (code,)).start()
            dist.barrier()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def broadcast_from_rank_zero(self, work: Callable[[], Value]) -> Value:
        """What the first rank's `work()` gives, on every rank; or the error that it raises, on every rank."""
        box: list[Any] = [None]
        if self.is_first:
            try:
                box = [work()]
            except (UserError, RunError) as error:
                box = [error]
        if self.size > 1:
            dist.broadcast_object_list(box, src=0)
        if isinstance(box[0], UserError | RunError):
            raise box[0]
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
