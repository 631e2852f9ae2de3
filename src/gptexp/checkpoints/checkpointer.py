"""Writes the checkpoints of a run, and finds the one to continue from."""

import errno
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from gptexp.checkpoints.checkpoint import Checkpoint, CorruptCheckpointError
from gptexp.checkpoints.optimizer_state import Encoded, OptimizerState
from gptexp.distributed import sharding
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import RunError, is_disk_full
from gptexp.files import commit_folder, dumps_with_checksum, sha256, write_text


class Checkpointer:
    """Checkpoints in `folder`: each is complete or absent, and the newest `keep` and the best are kept."""

    def __init__(
        self, folder: Path, process_group: ProcessGroup, keep: int = 1, sharded: bool = False
    ) -> None:
        self.folder, self.process_group = folder, process_group
        self.keep, self.sharded = keep, sharded

    def save(
        self,
        model: nn.Module,
        optimizers: OptimizerState,
        state: dict[str, Any],
        fingerprint: dict[str, Any],
        callbacks: dict[str, Any] | None = None,
        is_best: bool = False,
    ) -> None:
        """Write step-NNNNNN. All ranks call it; rank zero writes, or each rank its shards.

        Raises:
            RunError: the disk is full (earlier checkpoints are complete), or a state cannot be saved.
        """
        name = Checkpoint.folder_name(state["step"])
        temporary = self.folder / f".{name}.tmp"
        writes = self.process_group.is_rank_zero
        encoded = optimizers.encode()
        with self._write_together(temporary):
            if writes:
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
        sharding.reshard(model)
        # Parameters have the names of the plain Transformer; a shared one, such as a tied head, comes once.
        for kind, tensors in (
            ("model", model.named_parameters()),
            ("optimizer", encoded.tensors.items()),
        ):
            with self._write_together(temporary):
                self._save_tensors(temporary, kind, tensors)
        with self._write_together(temporary):  # after it, other ranks may read the pointers
            if writes:
                (temporary / "optimizer.json").write_text(json.dumps(encoded.values))
                if callbacks:
                    _save_callbacks(temporary, callbacks)
                (temporary / "state.json").write_text(json.dumps(state, indent=1))
                _write_manifest(temporary, state["step"], fingerprint)
                commit_folder(temporary, self.folder / name)
                write_text(self.folder / "last", f"{name}\n")
                if is_best:
                    write_text(self.folder / "best", f"{name}\n")
                self._remove_old()

    @contextmanager
    def _write_together(self, temporary: Path) -> Iterator[None]:
        """Write a part of a checkpoint on every rank; if one cannot, no rank waits for it."""
        try:
            with self.process_group.fail_together(), self._explain_full_disk():
                yield
        except Exception:
            if self.process_group.is_rank_zero:  # no rank writes any more
                shutil.rmtree(temporary, ignore_errors=True)
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

    def _save_tensors(self, folder: Path, kind: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
        rank, ranks = self.process_group.rank, self.process_group.size
        if self.sharded:
            sharding.save_shard(tensors, folder, kind, rank, ranks)
            return
        gathered: dict[str, Tensor] = {}
        for name, tensor in tensors:
            full = sharding.full_tensor(tensor.detach())  # all ranks take part, rank zero keeps it
            if rank == 0:
                gathered[name] = full.cpu().contiguous()
        if rank == 0:
            _require_space(folder, sum(tensor.nbytes for tensor in gathered.values()))
            save_file(gathered, folder / f"{kind}.safetensors")

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


def _save_callbacks(folder: Path, callbacks: dict[str, Any]) -> None:
    encoded = Encoded()
    try:
        encoded.values = encoded.encode(callbacks, "callbacks")
    except TypeError as error:
        raise RunError(f"the state of a callback cannot be saved: {error}") from error
    tensors = {name: tensor.cpu().contiguous() for name, tensor in encoded.tensors.items()}
    save_file(tensors, folder / "callbacks.safetensors")
    (folder / "callbacks.json").write_text(json.dumps(encoded.values))


def _write_manifest(folder: Path, step: int, fingerprint: dict[str, Any]) -> None:
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(folder.iterdir())
    }
    manifest = {"step": step, "fingerprint": fingerprint, "files": files}
    (folder / "manifest.json").write_text(dumps_with_checksum(manifest))


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"it needs {size / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free")
