"""The process group of a run: collectives that also work with a single process."""

import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from gptexp.config.parallelism import check_processes
from gptexp.config.schema import Config
from gptexp.distributed.environment import ProcessInfo, slurm_main_address, unset_command
from gptexp.distributed.launcher import PARENT
from gptexp.distributed.signals import stop_at_once
from gptexp.errors import Preempted, RunError, UserError, describe_error

Value = TypeVar("Value")
TIMEOUT = timedelta(minutes=30)  # of a collective; a rank that does not answer for so long is lost
STEP_TIMEOUT = timedelta(minutes=10)  # once a step is done: rank zero may write a large checkpoint
MIXED_BACKEND = "cpu:gloo,cuda:nccl"
RENDEZVOUS_TIMEOUT = timedelta(minutes=10)  # in which all processes must have started
SECONDS_BEFORE_LINE = 2.0  # of waiting, five times as long where a launcher starts the others
EXIT_SECONDS = 20.0  # for which a rank that stops waits for the others


@dataclass(frozen=True)
class ProcessGroup(ProcessInfo):
    """The processes of a run.

    tensor_parallel ranks in a row hold parts of the same matrices, and context_parallel such groups in a row hold parts
    of the same sequences. Each set of both is one data-parallel rank.
    """

    tensor_parallel: int = 1
    context_parallel: int = 1

    @property
    def data_rank(self) -> int:
        """Index of the sequences that this rank computes or shares, below `data_size`."""
        return self.rank // (self.tensor_parallel * self.context_parallel)

    @property
    def data_size(self) -> int:
        return self.size // (self.tensor_parallel * self.context_parallel)

    @property
    def token_rank(self) -> int:
        """Index of the tokens that this rank computes, below `token_size`: ranks with the same have equal gradients."""
        return self.rank // self.tensor_parallel

    @property
    def token_size(self) -> int:
        return self.size // self.tensor_parallel

    @property
    def counts_tokens(self) -> bool:
        """Whether this is the rank whose losses count, among those that compute the same tokens."""
        return self.rank % self.tensor_parallel == 0

    @property
    def counts_sequences(self) -> bool:
        """Whether this is the first of the ranks that compute or share the same sequences."""
        return self.rank % (self.tensor_parallel * self.context_parallel) == 0

    def as_data_parallel(self) -> Self:
        """Return the same processes, of which each computes sequences of its own."""
        return replace(self, tensor_parallel=1, context_parallel=1)

    def init(self, device: torch.device, cpu_offload: bool = False) -> None:
        """Initialise torch.distributed; a single process, or one that is initialised, does nothing.

        Args:
            cpu_offload: ranks with GPUs exchange tensors in the memory of the host, too.
        """
        if self.size == 1 or dist.is_initialized():
            return
        if "RANK" not in os.environ:
            os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm_main_address()
        gpu = use_gpu(self.local_rank) if device.type == "cuda" else None
        if gpu is not None:
            record_collectives()
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
            if gpu is not None:
                check_distinct_gpus(store, self, describe_gpu(gpu))
            dist.init_process_group(
                (MIXED_BACKEND if cpu_offload else "nccl") if gpu else "gloo",
                store=store,
                rank=self.rank,
                world_size=self.size,
                timeout=TIMEOUT,
                device_id=gpu,
            )

    def set_timeout(self, timeout: timedelta) -> None:
        """Set the time after which a collective on GPUs fails, for those that begin from now on.

        Runs on CPUs keep that of gloo: there the duration of a step says little about that of the next. With CPU
        offload, that of gloo changes too.
        """
        if self.size > 1 and "nccl" in dist.get_backend_config():
            for group in list(distributed_c10d._world.pg_map):
                distributed_c10d._set_pg_timeout(timeout, group)

    @contextmanager
    def destroy_on_exit(self) -> Iterator[None]:
        """Destroy the process group that FSDP makes for a single process, so that another run can follow."""
        is_outer = dist.is_initialized()
        try:
            yield
        finally:
            if self.size == 1 and dist.is_initialized() and not is_outer:
                dist.destroy_process_group()

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

    @staticmethod
    def abandon(code: int) -> None:
        """End this process, which has failed, at once: NCCL would wait for collectives that nobody completes."""
        if dist.is_initialized():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def broadcast_from_rank_zero(self, function: Callable[[], Value]) -> Value:
        """Call `function` on rank zero; return its value on every rank, or raise its error on every rank."""
        box: list[Any] = [None]
        failure: BaseException | None = None
        if self.is_rank_zero:
            try:
                box = [function()]
            except BaseException as error:
                failure, box = error, [_error_for_others(error, 0)]
        if self.size > 1:
            dist.broadcast_object_list(box, src=0)
        if failure is not None:
            raise failure
        if isinstance(box[0], BaseException):
            raise box[0]
        return box[0]

    @contextmanager
    def fail_together(self) -> Iterator[None]:
        """Run a block on every rank; if it fails on some rank, raise on all of them, so that none waits for another.

        All ranks have to take part in the collectives of the block before any of them can fail.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        shared = _error_for_others(failure, self.rank) if failure else None
        errors = [error for error in self.all_gather(shared) if error is not None]
        if failure is not None:
            raise failure
        if errors:
            raise errors[0]

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


def find_process_group(config: Config) -> ProcessGroup:
    """Return the processes of the run, and how they divide its work.

    Raises:
        UserError: there are too many or too few of them for the settings.
    """
    process_group = ProcessGroup.from_env()
    check_processes(config, process_group.size)
    return replace(
        process_group,
        tensor_parallel=config.trainer.tensor_parallel,
        context_parallel=config.trainer.context_parallel,
    )


def record_collectives() -> None:
    """Let NCCL's flight recorder keep the last collectives; it reads these variables when a process group starts."""
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")
    for size in ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"):  # the older name second
        os.environ.setdefault(size, "2000")


def write_collectives_to(folder: Path) -> None:
    """Let the flight recorder write to FOLDER/nccl_rank_N; it reads these variables after a time-out."""
    for file in ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"):
        os.environ.setdefault(file, str(folder.absolute() / "nccl_rank_"))


def use_gpu(local_rank: int) -> torch.device:
    """Make one of the GPUs that this process sees its own.

    A launcher shows a process either all GPUs of the machine, or its own alone (srun --gpus-per-task=1).
    """
    index = local_rank % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def describe_gpu(device: torch.device) -> str:
    """Return a name of a GPU that no other GPU has, on this machine or another."""
    return f"{socket.gethostname()}, {torch.cuda.get_device_properties(device).uuid}"


def check_distinct_gpus(store: Store, process: ProcessInfo, gpu: str) -> None:
    """Compare the GPUs of all processes: two of them on one GPU cannot communicate through NCCL.

    Raises:
        UserError: on every rank, if two have the same GPU.
    """
    store.set(f"gpu of rank {process.rank}", gpu)
    if process.is_rank_zero:
        rank_of: dict[str, int] = {}
        message = ""
        for rank in range(process.size):
            name = store.get(f"gpu of rank {rank}").decode()
            if name in rank_of and not message:
                message = (
                    f"ranks {rank_of[name]} and {rank} of {process.size} have the same GPU ({name}): start as many "
                    f"processes on a machine as it has GPUs, and with srun add --gpus-per-task=1; "
                    f"or use trainer.accelerator=cpu"
                )
            rank_of.setdefault(name, rank)
        store.set("shared gpu", message)
    if message := store.get("shared gpu").decode():
        raise UserError(message)


def _error_for_others(error: BaseException, rank: int) -> BaseException:
    """Return what the other ranks raise for an error of this one: the error itself if a message explains it."""
    if isinstance(error, UserError | RunError | Preempted):
        return error
    return RunError(f"rank {rank} failed: {describe_error(error)}")


def _first_sentence(error: Exception) -> str:
    """Return the beginning of an error of torch, without its notes for developers."""
    return re.split(r"[.\n]\s|\n", str(error).strip(), maxsplit=1)[0].rstrip(".")
