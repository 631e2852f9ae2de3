"""Checkpoints: a folder that is whole or absent, the same whatever the strategy, without pickled objects.

checkpoints/step-000100/model.safetensors      weights under the names of the plain Transformer
                        optimizer.safetensors  optimizer state, NAME/STATE
                        state.json             step, tokens, seconds, best, metrics
                        manifest.json          sha256 and size of each file; step, what it belongs to
checkpoints/last, checkpoints/best             name of a folder

Sharded, the first two are one file a rank, model-00001-of-00002.safetensors (see sharding.py). Whoever reads tensors
checks the manifest first: weights are either those that were written, or refused.
"""

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from gptexp.distributed import sharding
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import RunError, UserError
from gptexp.files import dumps_with_checksum, loads_checked, sha256


class CorruptCheckpointError(Exception):
    """A checkpoint is not what was written; the message names the file."""


def save(
    folder: Path,
    model: nn.Module,
    optimizers: list[Optimizer],
    state: dict[str, Any],
    process_group: ProcessGroup,
    *,
    fingerprint_of: dict[str, Any],
    is_best: bool = False,
    keep: int = 1,
    sharded: bool = False,
) -> None:
    """Write checkpoints/step-NNNNNN. Every rank calls it; the first writes, or each its shards.

    Raises:
        RunError: the disk is full; the checkpoints before are whole.
    """
    name = _name(state["step"])
    temporary = folder / f".{name}.tmp"
    if process_group.is_rank_zero:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    process_group.barrier()
    sharding.reshard(model)
    try:
        # Parameters come under the names of the plain Transformer; one that is shared, a tied head, comes once.
        for kind, tensors in (
            ("model", model.named_parameters()),
            ("optimizer", _states(model, optimizers)),
        ):
            if sharded:
                sharding.save_shard(
                    tensors, temporary, kind, process_group.rank, process_group.size
                )
            else:
                whole = {
                    key: value
                    for key, tensor in tensors
                    if (value := _full(tensor, process_group.is_rank_zero)) is not None
                }
                if process_group.is_rank_zero:
                    _require_room(temporary, sum(tensor.nbytes for tensor in whole.values()))
                    save_file(whole, temporary / f"{kind}.safetensors")
        process_group.barrier()
        if process_group.is_rank_zero:
            _finish(temporary, folder / name, state, fingerprint_of)
            _point(folder, "last", name)
            if is_best:
                _point(folder, "best", name)
            _remove_old(folder, keep)
        process_group.barrier()  # the others may read what the pointers name
    except (OSError, SafetensorError) as error:
        if not _is_full(error):
            raise
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(
            f"{folder}: no room for a checkpoint ({error}). {_advice(folder)}"
        ) from error


def latest_valid(folder: Path) -> Path | None:
    """The newest checkpoint that is what was written; damaged ones are named and set aside. None: there is none."""
    found = _steps(folder)
    for path in reversed(found):
        try:
            verify(path)
            return path
        except CorruptCheckpointError as error:
            aside = folder / f"damaged-{path.name}"
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            print(f"damaged checkpoint: {error}. It is now {aside}", file=sys.stderr)
    if found:
        print(f"{folder}: no whole checkpoint is left, training starts again", file=sys.stderr)
    return None


def verify(checkpoint: Path) -> None:
    """Compare a checkpoint's files with what was written.

    Raises:
        DamagedError: one is missing or differs.
    """
    try:
        said = manifest(checkpoint)
    except (OSError, ValueError) as error:
        raise CorruptCheckpointError(
            f"{checkpoint / 'manifest.json'}: not readable ({error})"
        ) from error
    if checkpoint.name != _name(said["step"]):
        raise CorruptCheckpointError(f"{checkpoint}: holds the checkpoint of step {said['step']}")
    for name, expected in said["files"].items():
        file = checkpoint / name
        if not file.is_file():
            raise CorruptCheckpointError(f"{file}: is missing")
        if file.stat().st_size != expected["bytes"]:
            raise CorruptCheckpointError(
                f"{file}: has {file.stat().st_size:,} bytes instead of {expected['bytes']:,}"
            )
        if sha256(file) != expected["sha256"]:
            raise CorruptCheckpointError(
                f"{file}: its content is not what was written (sha256 differs)"
            )


def read_state(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / "state.json").read_text())


def manifest(checkpoint: Path) -> dict[str, Any]:
    """What a verified checkpoint says of itself."""
    return loads_checked((checkpoint / "manifest.json").read_text())


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Into a model that is not sharded yet; whoever calls it has verified the checkpoint.

    Raises:
        UserError: they are weights of another model.
    """
    weights = sharding.load_tensors(checkpoint, "model")
    ours = dict(model.named_parameters())
    for name in sorted({*ours, *weights}):
        mine, theirs = (tuple(t[name].shape) if name in t else "missing" for t in (ours, weights))
        if mine != theirs:
            raise UserError(
                f"{checkpoint}: weights of another model: {name} is {theirs} there, {mine} here"
            )
    with torch.no_grad():
        for name, parameter in ours.items():
            parameter.copy_(weights[name])


def load_optimizers(checkpoint: Path, model: nn.Module, optimizers: list[Optimizer]) -> None:
    """Give each parameter its state back, sharded as the parameter is. The checkpoint has been verified."""
    moments = sharding.load_tensors(checkpoint, "optimizer")
    for name, parameter, state in _named_states(model, optimizers):
        for key in [key for key in moments if key.rpartition("/")[0] == name]:
            state[key.rpartition("/")[2]] = sharding.shard_like(moments[key], parameter)


def _states(model: nn.Module, optimizers: list[Optimizer]) -> Iterator[tuple[str, Tensor]]:
    for name, _, state in _named_states(model, optimizers):
        yield from (
            (f"{name}/{key}", value) for key, value in state.items() if isinstance(value, Tensor)
        )


def _named_states(
    model: nn.Module, optimizers: list[Optimizer]
) -> Iterator[tuple[str, Tensor, dict[str, Any]]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                yield names[parameter], parameter, optimizer.state[parameter]


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _full(tensor: Tensor, keep: bool) -> Tensor | None:
    """Every rank takes part in putting a sharded tensor together; who does not keep it, gives it up at once."""
    full = sharding.full_tensor(tensor.detach())
    return full.cpu().contiguous() if keep else None


def _finish(
    temporary: Path, final: Path, state: dict[str, Any], fingerprint_of: dict[str, Any]
) -> None:
    """Manifest, then everything out to the disk, then the name: a crash at any point leaves no half checkpoint."""
    (temporary / "state.json").write_text(json.dumps(state, indent=1))
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(temporary.iterdir())
    }
    text = dumps_with_checksum(
        {"step": state["step"], "belongs_to": fingerprint_of, "files": files}
    )
    (temporary / "manifest.json").write_text(text)
    for file in temporary.iterdir():
        _flush(file)
    _flush(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _flush(final.parent)


def _steps(folder: Path) -> list[Path]:
    """The checkpoints there are, oldest first."""
    return sorted(
        (path for path in folder.glob("step-*") if path.is_dir()),
        key=lambda path: int(path.name[5:]),
    )


def _remove_old(folder: Path, keep: int) -> None:
    """Keep the newest, and what a pointer names."""
    steps = _steps(folder)
    named = {
        (folder / name).read_text(errors="replace").strip()
        for name in ("last", "best")
        if (folder / name).is_file()
    }
    for path in steps[:-keep]:
        if path.name not in named:
            shutil.rmtree(path)


def _point(folder: Path, pointer: str, name: str) -> None:
    temporary = folder / f".{pointer}.tmp"
    temporary.write_text(name + "\n")
    _flush(temporary)
    temporary.replace(folder / pointer)


def _require_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"it needs {size / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free")


def _is_full(error: Exception) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(
        error
    )


def _advice(folder: Path) -> str:
    before = "".join(f"{path.name} is whole. " for path in _steps(folder)[-1:])
    return f"{before}Free some space and run the same command"


def _flush(path: Path) -> None:
    """Force a file, or the names in a folder, out to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
