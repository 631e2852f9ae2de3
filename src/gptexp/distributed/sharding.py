"""Sharded tensors (FSDP2's DTensors): gather and shard them, and collect what a checkpoint stores.

A shard file is safetensors. Its metadata holds, as JSON, where each piece lies in the full tensor. Reading puts the
pieces together, so that any number of ranks can read a checkpoint that any other number of ranks wrote; each rank reads
only the pieces that overlap with its own.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from gptexp.stored_tensors import (
    Region,
    StoredTensor,
    full_region,
    intersect,
    join_stored,
    open_safetensors,
    relative_to,
)

Buffers = dict[str, Tensor]  # memory of the host for copies of tensors, by their names


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a tensor if it is sharded; then all ranks have to call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor if it is sharded; outside of autograd, changes to it reach the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def compute_device(tensor: Tensor) -> torch.device:
    """Return the device that computes with a tensor: FSDP's CPU offload keeps shards on another one."""
    return (
        torch.device(tensor.device_mesh.device_type)
        if isinstance(tensor, DTensor)
        else tensor.device
    )


def clip_grad_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Clip the gradients by their common norm, in place, and return the norm before; max_norm=0 changes nothing."""
    parameters = list(parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    if len(group_by_mesh(parameters)) == 1:
        if not max_norm:
            return full_tensor(nn.utils.get_total_norm(gradients)).detach()
        return full_tensor(nn.utils.clip_grad_norm_(parameters, max_norm)).detach()
    norm = _norm_over_meshes(gradients)
    if max_norm:
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_([local_tensor(gradient) for gradient in gradients], factor)
    return norm


def _norm_over_meshes(gradients: list[Tensor]) -> Tensor:
    """Compute the norm of gradients that are sharded over different meshes: one all_reduce a kind and dimension."""
    kinds: dict[tuple[Any, ...], list[Tensor]] = {}
    for gradient in gradients:
        assert isinstance(gradient, DTensor)
        mesh, placements = gradient.device_mesh, gradient.placements
        sharded = [i for i, placement in enumerate(placements) if not placement.is_replicate()]
        groups = tuple(mesh.get_group(i) for i in sharded)
        kinds.setdefault(groups, []).append(gradient.to_local())
    squares = []
    for groups, parts in kinds.items():
        squares.append(torch.stack(torch._foreach_norm(parts)).square().sum())
        for group in groups:
            dist.all_reduce(squares[-1], group=group)
    return torch.stack(squares).sum().sqrt()


def group_by_mesh(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Divide parameters by the mesh that they are sharded over: torch's fused operations take tensors of one mesh."""
    groups: dict[DeviceMesh | None, list[nn.Parameter]] = {}
    for parameter in parameters:
        mesh = parameter.device_mesh if isinstance(parameter, DTensor) else None
        groups.setdefault(mesh, []).append(parameter)
    return list(groups.values())


def reshard(model: nn.Module) -> None:
    """Free the full parameters of FSDP modules: a pass without gradients leaves those of the root gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def read_like(stored: StoredTensor, like: Tensor) -> Tensor:
    """Read a tensor to the device of `like`; this rank's part alone, if it has to be sharded in the same way."""
    if tuple(like.shape) != stored.shape or not isinstance(like, DTensor):
        return stored.read_all().to(like.device, copy=True)
    local = torch.empty_like(like.to_local(), dtype=stored.dtype)
    return DTensor.from_local(
        local.copy_(stored.read(local_region(like))),
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


def local_region(tensor: Tensor) -> Region:
    """Return the region of the full tensor that this rank holds."""
    if not isinstance(tensor, DTensor):
        return full_region(tensor.shape)
    shape, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return tuple(slice(start, start + size) for start, size in zip(offset, shape, strict=True))


def write_rows(parameter: Tensor, start: int, rows: Tensor) -> None:
    """Copy those of the rows from `start` on that this rank holds into a parameter."""
    mine, theirs = local_region(parameter), full_region(rows.shape)
    if theirs:
        theirs = (slice(start, start + len(rows)), *theirs[1:])
    if (common := intersect(mine, theirs)) is not None:
        local = local_tensor(parameter)
        local[relative_to(common, mine)] = rows[relative_to(common, theirs)].to(local.device)


@torch.no_grad()
def fill_parameters(model: nn.Module, weights: Mapping[str, StoredTensor]) -> None:
    """Read the parameters that `weights` has by name; each rank reads its part of those that are sharded."""
    for name, parameter in model.named_parameters():
        if name in weights:
            local_tensor(parameter).copy_(weights[name].read(local_region(parameter)))


def collect_full(
    tensors: Iterable[tuple[str, Tensor]], is_kept: bool, buffers: Buffers | None
) -> dict[str, Tensor]:
    """Gather all tensors in memory of the host. All ranks take part; those that keep nothing return nothing."""
    collected: dict[str, Tensor] = {}
    for name, tensor in tensors:
        full = full_tensor(tensor.detach())
        if is_kept:
            collected[name] = to_host(name, full, buffers)
    return collected


def collect_shard(
    tensors: Iterable[tuple[str, Tensor]], is_rank_zero: bool, buffers: Buffers | None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return this rank's pieces in memory of the host, and the metadata of its file.

    Rank zero adds the tensors that are not sharded. Of several copies of a piece, the first is stored.
    """
    pieces: dict[str, Tensor] = {}
    positions: dict[str, dict[str, list[int]]] = {}
    for name, tensor in tensors:
        if isinstance(tensor, DTensor):
            if not _is_first_copy(tensor):
                continue
            _, offset = compute_local_shape_and_global_offset(
                tensor.shape, tensor.device_mesh, tensor.placements
            )
            positions[name] = {"shape": list(tensor.shape), "offset": list(offset)}
            pieces[name] = to_host(name, tensor.to_local(), buffers)
        elif is_rank_zero:
            pieces[name] = to_host(name, tensor, buffers)
    return pieces, {"positions": json.dumps(positions)}


def _is_first_copy(tensor: DTensor) -> bool:
    """Return whether no rank before this one holds the same piece."""
    coordinate = tensor.device_mesh.get_coordinate()
    assert coordinate is not None
    return not any(
        index
        for index, placement in zip(coordinate, tensor.placements, strict=True)
        if placement.is_replicate()
    )


def to_host(name: str, tensor: Tensor, buffers: Buffers | None) -> Tensor:
    """Return a contiguous tensor in memory of the host; with `buffers`, a copy that later steps do not change.

    The copy overwrites the buffer of that name: new memory would cost more time than the copy. For a GPU it is pinned
    memory, and the copy is not waited for: synchronize before reading it.
    """
    tensor = tensor.detach()  # a buffer that is part of a graph would keep all earlier copies
    if buffers is None:
        return tensor.cpu().contiguous()
    buffer = buffers.get(name)
    if buffer is None or (buffer.shape, buffer.dtype) != (tensor.shape, tensor.dtype):
        buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        buffers[name] = buffer
    return buffer.copy_(tensor, non_blocking=True)


def open_tensors(folder: Path, kind: str) -> dict[str, StoredTensor]:
    """Return the full tensors of KIND.safetensors, or of all its shards.

    Raises:
        SafetensorError: a file is not of this format.
    """
    tensors: dict[str, StoredTensor] = {}
    shapes: dict[str, list[int]] = {}
    pieces: dict[str, list[tuple[list[int], StoredTensor]]] = defaultdict(list)
    for file in sorted(folder.glob(f"{kind}*.safetensors")):
        stored, metadata = open_safetensors(file)
        positions = json.loads(metadata.get("positions", "{}"))
        for name, tensor in stored.items():
            if name not in positions:
                tensors[name] = tensor
                continue
            shapes[name] = positions[name]["shape"]
            pieces[name].append((positions[name]["offset"], tensor))
    return tensors | {name: join_stored(shape, pieces[name]) for name, shape in shapes.items()}
