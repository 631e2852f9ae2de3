"""Checkpoints: a folder that is whole or absent, the same whatever the strategy, without pickled objects.

checkpoints/step-000100/model.safetensors      full weights under the names of the plain Transformer
                        optimizer.safetensors  full optimizer state, NAME/STATE
                        state.json             step, tokens, seconds, metrics
                        manifest.json          sha256 of each file
checkpoints/last, checkpoints/best             name of a folder
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

KEEP = 1  # checkpoints beside the best one


def save(
    folder: Path,
    model: nn.Module,
    optimizers: list[Optimizer],
    state: dict[str, Any],
    is_best: bool,
    writes: bool,
) -> None:
    """Write checkpoints/step-NNNNNN. Every rank calls it, since shards are gathered; only `writes` writes."""
    weights = model_tensors(model)
    moments = optimizer_tensors(model, optimizers)
    if not writes:
        return
    name = f"step-{state['step']:06d}"
    temporary = folder / f".{name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(weights, temporary / "model.safetensors")
    save_file(moments, temporary / "optimizer.safetensors")
    (temporary / "state.json").write_text(json.dumps(state, indent=1))
    files = sorted(temporary.iterdir())
    manifest = {"files": {file.name: _sha256(file) for file in files}, **state}
    (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for file in temporary.iterdir():
        _flush(file)
    shutil.rmtree(folder / name, ignore_errors=True)
    temporary.rename(folder / name)
    _flush(folder)
    _point(folder, "last", name)
    if is_best:
        _point(folder, "best", name)
    _remove_old(folder)


def find(folder: Path, which: str = "last") -> Path | None:
    """The checkpoint that `last` or `best` names; None where there is none yet."""
    pointer = folder / which
    if not pointer.is_file():
        return None
    found = folder / pointer.read_text().strip()
    return found if (found / "manifest.json").is_file() else None


def read_state(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / "state.json").read_text())


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Raises RuntimeError where names or shapes differ."""
    weights = load_file(checkpoint / "model.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    shared = {name for name, _ in model.named_parameters(remove_duplicate=False)} - set(weights)
    if unexpected or set(missing) - shared:
        raise RuntimeError(f"{checkpoint}: weights of another model: missing {missing}, unexpected {unexpected}")


def load_optimizers(checkpoint: Path, model: nn.Module, optimizers: list[Optimizer]) -> None:
    """Give each parameter its state back, sharded as the parameter is."""
    moments = load_file(checkpoint / "optimizer.safetensors")
    for name, parameter, state in _named_states(model, optimizers):
        for key in [key for key in moments if key.rpartition("/")[0] == name]:
            state[key.rpartition("/")[2]] = _placed(moments[key], parameter)


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Full weights on the CPU; a tied head is stored once."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():  # names a shared parameter once
        tensors[name] = _full(parameter)
    return tensors


def optimizer_tensors(model: nn.Module, optimizers: list[Optimizer]) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": _full(value)
        for name, _, state in _named_states(model, optimizers)
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def _named_states(model: nn.Module, optimizers: list[Optimizer]) -> Iterable[tuple[str, Tensor, dict[str, Any]]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                yield names[parameter], parameter, optimizer.state[parameter]


def _full(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.cpu().contiguous()


def _placed(full: Tensor, parameter: Tensor) -> Tensor:
    if full.ndim == 0:  # a step count
        return full.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(full.to(parameter.device), parameter.device_mesh, parameter.placements)
    return full.to(parameter.device)


def _remove_old(folder: Path) -> None:
    steps = sorted(path for path in folder.glob("step-*") if path.is_dir())
    kept = {(folder / name).read_text().strip() for name in ("last", "best") if (folder / name).is_file()}
    for path in steps[: -KEEP or None]:
        if path.name not in kept:
            shutil.rmtree(path)


def _point(folder: Path, pointer: str, name: str) -> None:
    temporary = folder / f".{pointer}.tmp"
    temporary.write_text(name + "\n")
    _flush(temporary)
    temporary.replace(folder / pointer)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Force a file, or the names in a folder, out to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(model: nn.Module) -> str:
    """sha256 over all weights, by name: two models are the same to the bit where it is equal."""
    total = hashlib.sha256()
    for name, tensor in sorted(model_tensors(model).items()):
        total.update(name.encode() + tensor.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
