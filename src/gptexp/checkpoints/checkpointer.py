"""Writes the checkpoints of a run, and finds the one to continue from."""

import errno
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from operator import or_
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from gptexp.checkpoints.checkpoint import Checkpoint, CorruptCheckpointError
from gptexp.checkpoints.optimizer_state import Encoded, OptimizerState
from gptexp.distributed import sharding
from gptexp.distributed.process_group import ProcessGroup
from gptexp.distributed.sharding import Buffers
from gptexp.errors import RunError, is_disk_full
from gptexp.files import commit_folder, dumps_with_checksum, fsync, sha256, write_text
from gptexp.machine import available_memory

FileEntries = dict[str, dict[str, Any]]  # bytes and sha256 of files, by name, as in the manifest
# Memory that has to be available for a copy, by its size: blocks of pinned memory are powers of two.
MEMORY_MARGIN = 2
# For which a rank waits for its thread before it answers the others: their collectives time out after minutes.
WAIT_SECONDS = 60.0


@dataclass
class Writing:
    """A checkpoint that the thread of each rank writes; `jobs` are those of this rank."""

    step: int
    fingerprint: dict[str, Any]
    is_best: bool
    jobs: list[Future[FileEntries]] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return all(job.done() for job in self.jobs)


class Checkpointer:
    """Checkpoints in `folder`: each is complete or absent, and the newest `keep` and the best are kept.

    `save` copies a checkpoint, and a thread writes the copy while training goes on. The thread works on files alone:
    collectives are left to `save` and `finish`, which all ranks call together.
    """

    def __init__(
        self, folder: Path, process_group: ProcessGroup, keep: int = 1, sharded: bool = False
    ) -> None:
        self.folder, self.process_group = folder, process_group
        self.keep, self.sharded = keep, sharded
        self.commits_in_thread = not sharded or process_group.size == 1
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.writing: Writing | None = None
        self.has_memory: bool | None = None  # for copies; known from the first one on
        self.buffers: defaultdict[str, Buffers] = defaultdict(dict)  # for copies, by kind

    @property
    def is_writing(self) -> bool:
        """Whether the thread of this rank has work."""
        return self.writing is not None and not self.writing.is_done

    def save(
        self,
        model: nn.Module,
        optimizers: OptimizerState,
        state: dict[str, Any],
        fingerprint: dict[str, Any],
        callbacks: dict[str, Any] | None = None,
        is_best: bool = False,
    ) -> None:
        """Copy a checkpoint, which the thread writes as step-NNNNNN; without memory for a copy, write it here.

        Rank zero writes all of it, or each rank its shards.

        Raises:
            RunError: this checkpoint or the one before it cannot be saved; earlier ones are complete.
        """
        self.finish()
        writing = Writing(state["step"], fingerprint, is_best)
        encoded = optimizers.encode()
        callback_tensors: dict[str, Tensor] | None = None
        with self._write_together(writing):
            if self.process_group.is_rank_zero:
                callback_tensors = self._write_texts(writing, encoded.values, state, callbacks)
        sharding.reshard(model)
        # Parameters have the names of the plain Transformer; a shared one, such as a tied head, comes once.
        tensors: dict[str, dict[str, Tensor]] = {
            "model": dict(model.named_parameters()),
            "optimizer": encoded.tensors,
        }
        if self.has_memory is None:
            self.has_memory = self._has_memory_for(tensors)
        for kind, named in tensors.items():
            # No name for what is collected: in place, it is freed before the next tensors are gathered.
            self._submit(writing, *self._collect(kind, named))
            if not self.has_memory:
                self._wait_together(writing)
        if callback_tensors is not None:
            items, buffers = callback_tensors.items(), self.buffers["callbacks"]
            copies = {name: sharding.to_host(name, tensor, buffers) for name, tensor in items}
            self._submit(writing, "callbacks.safetensors", copies, None)
        if self.commits_in_thread and self.process_group.is_rank_zero:
            written = (job.result() for job in tuple(writing.jobs))
            writing.jobs.append(self.thread.submit(self._commit, writing, written))
        self.writing = writing
        if not self.has_memory:
            self.finish()

    def finish(self) -> None:
        """Wait until the checkpoint of the last `save` is complete.

        Raises:
            RunError: it could not be written; earlier ones are complete.
        """
        if self.writing is None:
            return
        writing, self.writing = self.writing, None
        self._wait_together(writing)
        if self.commits_in_thread:
            return
        files = self.process_group.all_gather([job.result() for job in writing.jobs])
        with self._write_together(writing):
            if self.process_group.is_rank_zero:
                self._commit(writing, chain.from_iterable(files))

    def close(self) -> None:
        """Complete the last checkpoint, and free the memory of copies."""
        self.finish()
        self.buffers.clear()

    def wait(self) -> None:
        """Wait for the thread of this rank alone, after an error that the other ranks may not have."""
        if self.writing is None:
            return
        errors = [job.exception() for job in self.writing.jobs]
        if error := next(filter(None, errors), None):
            print(
                f"the checkpoint of step {self.writing.step} is not saved: {error}", file=sys.stderr
            )

    def _temporary(self, writing: Writing) -> Path:
        return self.folder / f".{Checkpoint.folder_name(writing.step)}.tmp"

    def _wait_together(self, writing: Writing) -> None:
        """Wait for the threads of all ranks; an error of one is raised on all of them."""
        is_busy = True
        while is_busy:
            futures.wait(writing.jobs, WAIT_SECONDS)
            is_busy = any(self.process_group.all_gather(not writing.is_done))
        with self._write_together(writing):
            for job in writing.jobs:
                job.result()

    @contextmanager
    def _write_together(self, writing: Writing) -> Iterator[None]:
        """Write a part of a checkpoint on every rank; if one cannot, no rank waits for it."""
        try:
            with self.process_group.fail_together(), self._explain_full_disk():
                yield
        except Exception:
            if self.process_group.is_rank_zero:  # no rank writes any more
                shutil.rmtree(self._temporary(writing), ignore_errors=True)
            raise

    @contextmanager
    def _explain_full_disk(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            if not is_disk_full(error):
                raise
            complete = "".join(f"{path.name} is complete. " for path in self._steps()[-1:])
            raise RunError(
                f"{self.folder}: no room for a checkpoint ({error}). "
                f"{complete}Free some space and run the same command"
            ) from None

    def _write_texts(
        self,
        writing: Writing,
        optimizers: Any,
        state: dict[str, Any],
        callbacks: dict[str, Any] | None,
    ) -> dict[str, Tensor] | None:
        """Write the JSON files into a new temporary folder; return the tensors of the callbacks' state."""
        for leftover in self.folder.glob(".step-*.tmp"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = self._temporary(writing)
        temporary.mkdir(parents=True)
        (temporary / "optimizer.json").write_text(json.dumps(optimizers))
        (temporary / "state.json").write_text(json.dumps(state, indent=1))
        if not callbacks:
            return None
        encoded = _encode_callbacks(callbacks)
        (temporary / "callbacks.json").write_text(json.dumps(encoded.values))
        return encoded.tensors

    def _collect(
        self, kind: str, named: dict[str, Tensor]
    ) -> tuple[str, dict[str, Tensor], dict[str, str] | None]:
        """Return the file that this rank writes, its tensors and metadata. All ranks take part in gathering them."""
        rank, ranks = self.process_group.rank, self.process_group.size
        items, buffers = named.items(), self.buffers[kind] if self.has_memory else None
        if self.sharded:
            file = f"{kind}-{rank + 1:05d}-of-{ranks:05d}.safetensors"
            return file, *sharding.collect_shard(items, rank == 0, buffers)
        return f"{kind}.safetensors", sharding.collect_full(items, rank == 0, buffers), None

    def _submit(
        self, writing: Writing, name: str, tensors: dict[str, Tensor], metadata: Any
    ) -> None:
        """Let the thread write a file as soon as its tensors are copied; a whole checkpoint is rank zero's."""
        if self.sharded or self.process_group.is_rank_zero:
            file, copied = self._temporary(writing) / name, _record_event()
            writing.jobs.append(self.thread.submit(_write, file, tensors, metadata, copied))

    def _has_memory_for(self, tensors: dict[str, dict[str, Tensor]]) -> bool:
        """Return whether all ranks have memory for copies of the tensors that they write; rank zero says if not."""
        values = [tensor for named in tensors.values() for tensor in named.values()]
        size, writers = 0, 1
        if self.sharded:
            size = sum(sharding.local_tensor(tensor).nbytes for tensor in values)
            writers = self.process_group.local_size
        elif self.process_group.is_rank_zero:
            size = sum(tensor.nbytes for tensor in values)
        available = available_memory()
        shortage = ""
        if available is not None and MEMORY_MARGIN * size * writers > available:
            shortage = (
                f"a copy of a checkpoint takes {size * writers / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB "
                f"are available: training waits while checkpoints are written"
            )
        shortages = list(filter(None, self.process_group.all_gather(shortage)))
        if shortages and self.process_group.is_rank_zero:
            print(shortages[0], file=sys.stderr)
        return not shortages

    def _commit(self, writing: Writing, files: Iterable[FileEntries]) -> FileEntries:
        """Add the manifest, rename the folder, point to it, and delete checkpoints that are too old."""
        temporary, name = self._temporary(writing), Checkpoint.folder_name(writing.step)
        texts = {file.name: _describe_file(file) for file in temporary.glob("*.json")}
        manifest = {
            "step": writing.step,
            "fingerprint": writing.fingerprint,
            "files": dict(sorted(reduce(or_, files, texts).items())),
        }
        (temporary / "manifest.json").write_text(dumps_with_checksum(manifest))
        commit_folder(temporary, self.folder / name)
        write_text(self.folder / "last", f"{name}\n")
        if writing.is_best:
            write_text(self.folder / "best", f"{name}\n")
        self._remove_old()
        return {}

    def latest_valid(self) -> Checkpoint | None:
        """Return the newest checkpoint whose files match its manifest; rename and report damaged ones."""
        steps = self._steps()
        for path in reversed(steps):
            checkpoint = Checkpoint(path)
            try:
                checkpoint.verify()
                return checkpoint
            except CorruptCheckpointError as error:
                new_path = self.folder / f"damaged-{path.name}"
                shutil.rmtree(new_path, ignore_errors=True)
                path.rename(new_path)
                print(f"damaged checkpoint: {error}. It is now {new_path}", file=sys.stderr)
        if steps:
            print(
                f"{self.folder}: no complete checkpoint is left, training starts again",
                file=sys.stderr,
            )
        return None

    def find_complete(self) -> Checkpoint | None:
        """Return the newest checkpoint whose files match its manifest, and leave the damaged ones as they are."""
        for path in reversed(self._steps()):
            checkpoint = Checkpoint(path)
            with suppress(CorruptCheckpointError):
                checkpoint.verify()
                return checkpoint
        return None

    def forget_best(self) -> None:
        """Remove the pointer to the best checkpoint, for a run that continues on other data."""
        if self.process_group.is_rank_zero:
            (self.folder / "best").unlink(missing_ok=True)

    def _steps(self) -> list[Path]:
        """Return the folders of all checkpoints, oldest first."""
        paths = (path for path in self.folder.glob("step-*") if path.is_dir())
        return sorted(paths, key=lambda path: int(path.name.removeprefix("step-")))

    def _remove_old(self) -> None:
        """Delete all checkpoints but the newest `keep`, the last and the best."""
        pointers = [self.folder / name for name in ("last", "best")]
        named = {path.read_text(errors="replace").strip() for path in pointers if path.is_file()}
        for path in self._steps()[: -self.keep]:
            if path.name not in named:
                shutil.rmtree(path)


def _encode_callbacks(callbacks: dict[str, Any]) -> Encoded:
    encoded = Encoded()
    try:
        encoded.values = encoded.encode(callbacks, "callbacks")
    except TypeError as error:
        raise RunError(f"the state of a callback cannot be saved: {error}") from error
    return encoded


def _write(
    file: Path,
    tensors: dict[str, Tensor],
    metadata: dict[str, str] | None,
    copied: torch.cuda.Event | None,
) -> FileEntries:
    """Write a file, flush it to the disk and return its entry of the manifest."""
    if copied:
        copied.synchronize()
    _require_space(file.parent, sum(tensor.nbytes for tensor in tensors.values()))
    save_file(tensors, file, metadata)
    fsync(file)
    return {file.name: _describe_file(file)}


def _describe_file(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256(file)}


def _record_event() -> torch.cuda.Event | None:
    """Return an event that follows all work of the GPU so far; None where none is in use."""
    if not torch.cuda.is_initialized():
        return None
    event = torch.cuda.Event()
    event.record()
    return event


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"it needs {size / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free")
