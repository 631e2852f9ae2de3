"""The process group of a run: collectives that also work with a single process."""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from gptexp.distributed.environment import ProcessInfo, slurm_main_address, unset_command
from gptexp.distributed.launcher import PARENT
from gptexp.distributed.signals import stop_at_once
from gptexp.errors import RunError, UserError

Value = TypeVar("Value")
TIMEOUT = timedelta(minutes=30)  # of a collective; a rank that does not answer for so long is lost
RENDEZVOUS_TIMEOUT = timedelta(minutes=10)  # in which all processes must have started
SECONDS_BEFORE_LINE = 2.0  # of waiting, five times as long where a launcher starts the others
EXIT_SECONDS = 20.0  # for which a rank that stops waits for the others


@dataclass(frozen=True)
class ProcessGroup(ProcessInfo):
    def init(self, device: torch.device) -> None:
        """Initialise torch.distributed; a single process, or one that is initialised, does nothing."""
        if self.size == 1 or dist.is_initialized():
            return
        if "RANK" not in os.environ:
            os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm_main_address()
        if device.type == "cuda":
            if self.local_rank >= torch.cuda.device_count():
                raise UserError(
                    f"process {self.local_rank} of this machine has no GPU: torch finds "
                    f"{torch.cuda.device_count()} here. Start as many processes as there are GPUs"
                )
            torch.cuda.set_device(self.local_rank)
        backend = "nccl" if device.type == "cuda" else "gloo"
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        with self._report_waiting(address), stop_at_once():
            try:
                store, _, _ = next(
                    rendezvous("env://", self.rank, self.size, timeout=RENDEZVOUS_TIMEOUT)
                )
            except (dist.DistError, ValueError) as error:
                raise UserError(
                    f"the {self.size} processes of this run (rank {self.rank} is this one) did not meet at {address}: "
                    f"{_first_sentence(error)}. Start them all, or, if no launcher runs, type: {unset_command()}"
                ) from None
            store.set_timeout(TIMEOUT)
            dist.init_process_group(
                backend, store=store, rank=self.rank, world_size=self.size, timeout=TIMEOUT
            )

    @contextmanager
    def _report_waiting(self, address: str) -> Iterator[None]:
        """Print for whom this process waits, unless all meet within seconds."""
        line = (
            f"rank {self.rank} waits at {address} for the other processes of {self.size}, "
            f"for at most {RENDEZVOUS_TIMEOUT.total_seconds():.0f} s"
        )
        if is_leftover := not {PARENT, "TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"} & set(os.environ):
            line += f". If no launcher runs, RANK is left over in this shell: {unset_command()}"
        timer = threading.Timer(
            SECONDS_BEFORE_LINE * (1 if is_leftover else 5),
            print,
            (line,),
            {"file": sys.stderr, "flush": True},
        )
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

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


def _first_sentence(error: Exception) -> str:
    """Return the beginning of an error of torch, without its notes for developers."""
    return re.split(r"[.\n]\s|\n", str(error).strip(), maxsplit=1)[0].rstrip(".")
