"""Tensors that are spread over ranks (FSDP2's DTensors): put together, taken apart, and saved one file a rank.

A shard file is safetensors; its header says for each piece where it belongs in the whole, as JSON. Pieces are put
together when they are read, so that any number of ranks can read what any other number has written.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. Where it is sharded every rank has to call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def settle(model: nn.Module) -> None:
    """Parameters as they are kept: a pass without gradients leaves those of the root gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def placed(full: Tensor, like: Tensor) -> Tensor:
    """`full` on the device of `like`, and sharded as it is; a single number stays whole."""
    if full.ndim and isinstance(like, DTensor):
        full = full.to(like.device).contiguous()  # on every rank, which takes its part
        return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)
    return full.to(like.device)


def save_shard(
    tensors: Iterable[tuple[str, Tensor]], folder: Path, kind: str, rank: int, ranks: int
) -> None:
    """This rank's pieces, as KIND-00001-of-00002.safetensors; what is not sharded goes with the first rank."""
    pieces: dict[str, Tensor] = {}
    places: dict[str, dict[str, list[int]]] = {}
    for name, tensor in tensors:
        if isinstance(tensor, DTensor):
            _, offset = compute_local_shape_and_global_offset(
                tensor.shape, tensor.device_mesh, tensor.placements
            )
            places[name] = {"shape": list(tensor.shape), "offset": list(offset)}
            pieces[name] = tensor.to_local().detach().cpu().contiguous()
        elif rank == 0:
            pieces[name] = tensor.detach().cpu().contiguous()
    file = folder / f"{kind}-{rank + 1:05d}-of-{ranks:05d}.safetensors"
    save_file(pieces, file, metadata={"places": json.dumps(places)})


def load(folder: Path, kind: str) -> dict[str, Tensor]:
    """The whole tensors of KIND.safetensors, or of all its shards.

    Raises:
        SafetensorError: a file is not of this format.
    """
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob(f"{kind}*.safetensors")):
        with safe_open(file, "pt") as stored:
            places = json.loads((stored.metadata() or {}).get("places", "{}"))
            for name in stored.keys():  # noqa: SIM118  not a dict
                piece = stored.get_tensor(name)
                if name not in places:
                    tensors[name] = piece
                    continue
                if name not in tensors:
                    tensors[name] = torch.empty(places[name]["shape"], dtype=piece.dtype)
                region = tuple(
                    slice(start, start + size)
                    for start, size in zip(places[name]["offset"], piece.shape, strict=True)
                )
                tensors[name][region] = piece
    return tensors
