"""Sharded tensors (FSDP2's DTensors): gather and shard them, and collect what a checkpoint stores.

A shard file is safetensors. Its metadata holds, as JSON, where each piece lies in the full tensor. Reading puts the
pieces together, so that any number of ranks can read a checkpoint that any other number of ranks wrote.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset


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
    """Clip the gradients by their common norm, in place, and return the norm before."""
    parameters = list(parameters)
    groups = group_by_mesh(parameters)
    if len(groups) == 1:
        return full_tensor(nn.utils.clip_grad_norm_(parameters, max_norm)).detach()
    norms = [
        full_tensor(nn.utils.get_total_norm([p.grad for p in group if p.grad is not None]))
        for group in groups
    ]
    norm = torch.stack(norms).norm()
    for group in groups:
        nn.utils.clip_grads_with_norm_(group, max_norm, norm)
    return norm.detach()


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


def shard_like(full: Tensor, like: Tensor) -> Tensor:
    """Move `full` to the device of `like` and shard it in the same way; a tensor of another shape stays full."""
    if full.shape == like.shape and isinstance(like, DTensor):
        full = full.to(like.device).contiguous()  # every rank has all of it and keeps its own part
        return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)
    return full.to(like.device)


def collect_full(
    tensors: Iterable[tuple[str, Tensor]], is_kept: bool, copy: bool
) -> dict[str, Tensor]:
    """Gather all tensors in memory of the host. All ranks take part; those that keep nothing return nothing."""
    collected: dict[str, Tensor] = {}
    for name, tensor in tensors:
        full = full_tensor(tensor.detach())
        if is_kept:
            collected[name] = to_host(full, copy)
    return collected


def collect_shard(
    tensors: Iterable[tuple[str, Tensor]], is_rank_zero: bool, copy: bool
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return this rank's pieces in memory of the host, and the metadata of its file.

    Rank zero adds the tensors that are not sharded.
    """
    pieces: dict[str, Tensor] = {}
    positions: dict[str, dict[str, list[int]]] = {}
    for name, tensor in tensors:
        if isinstance(tensor, DTensor):
            _, offset = compute_local_shape_and_global_offset(
                tensor.shape, tensor.device_mesh, tensor.placements
            )
            positions[name] = {"shape": list(tensor.shape), "offset": list(offset)}
            pieces[name] = to_host(tensor.to_local().detach(), copy)
        elif is_rank_zero:
            pieces[name] = to_host(tensor.detach(), copy)
    return pieces, {"positions": json.dumps(positions)}


def to_host(tensor: Tensor, copy: bool) -> Tensor:
    """Return a contiguous tensor in memory of the host; with `copy`, one that later steps do not change.

    A copy from a GPU goes to pinned memory and is not waited for: synchronize before reading it.
    """
    if not copy:
        return tensor.cpu().contiguous()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return host.copy_(tensor, non_blocking=True)


def load_tensors(folder: Path, kind: str) -> dict[str, Tensor]:
    """Read the full tensors of KIND.safetensors, or of all its shards.

    Raises:
        SafetensorError: a file is not of this format.
    """
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob(f"{kind}*.safetensors")):
        with safe_open(file, "pt") as stored:
            positions = json.loads((stored.metadata() or {}).get("positions", "{}"))
            for name in stored.keys():  # noqa: SIM118  not a dict
                piece = stored.get_tensor(name)
                if name not in positions:
                    tensors[name] = piece
                    continue
                if name not in tensors:
                    tensors[name] = torch.empty(positions[name]["shape"], dtype=piece.dtype)
                region = tuple(
                    slice(start, start + size)
                    for start, size in zip(positions[name]["offset"], piece.shape, strict=True)
                )
                tensors[name][region] = piece
    return tensors
