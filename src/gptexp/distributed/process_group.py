"""The process group of a run: collectives that also work with a single process."""

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
TIMEOUT = timedelta(minutes=30)  # of a collective; a rank that does not answer for so long is lost
EXIT_SECONDS = 20.0  # for which a rank that stops waits for the others


@dataclass(frozen=True)
class ProcessGroup(ProcessInfo):
    def init(self, device: torch.device) -> None:
        """Initialise torch.distributed; a single process, or one that is initialised, does nothing."""
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
    def exit(code: int = 0) -> None:
        """End this process together with the other ranks; return if it is the only one.

        The caller has written all files. This skips the interpreter's own exit, in which gloo's threads may abort the
        process with a failure code.
        """
        if dist.is_initialized():
            if code:  # the other ranks may wait in another collective and never reach this barrier
                threading.Timer(EXIT_SECONDS, os._exit, (code,)).start()
            dist.barrier()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def broadcast_from_rank_zero(self, function: Callable[[], Value]) -> Value:
        """Call `function` on rank zero; return its value, or raise its UserError or RunError, on every rank."""
        box: list[Any] = [None]
        if self.is_rank_zero:
            try:
                box = [function()]
            except (UserError, RunError) as error:
                box = [error]
        if self.size > 1:
            dist.broadcast_object_list(box, src=0)
        if isinstance(box[0], UserError | RunError):
            raise box[0]
        return box[0]

    def all_gather(self, value: Value) -> list[Value]:
        """Return the values of all ranks, in the order of the ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor
