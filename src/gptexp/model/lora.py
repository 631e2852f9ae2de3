"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): W x becomes W x + (alpha / rank) B A x, and W is frozen.

The names of the weights stay, and a merged model has plain linear layers again.
"""

import math
from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.stored_tensors import StoredTensor, compute_stored


class LoraLinear(nn.Linear):
    """A linear layer whose weight [out, in] is frozen, with A [rank, in] and B [out, rank] beside it."""

    def __init__(self, plain: nn.Linear, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight, self.bias, self.scale = plain.weight, plain.bias, alpha / rank
        self.lora_a = nn.Parameter(torch.empty(rank, plain.in_features))
        self.lora_b = nn.Parameter(torch.zeros(plain.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + F.linear(F.linear(x, self.lora_a), self.lora_b) * self.scale


def add(
    model: nn.Module,
    rank: int,
    alpha: float,
    targets: Collection[str],
    trained: Collection[str] = (),
) -> None:
    """Freeze `model` except the modules named in `trained`, and adapt the blocks' linear layers named in `targets`.

    Raises:
        ValueError: no layer has one of these names.
    """
    layers = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    names = {name.rpartition(".")[2] for name in layers if "blocks." in name}
    if unknown := set(targets) - names:
        raise ValueError(
            f"no layer is called {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}"
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in trained)
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        if last in targets and "blocks." in name:
            setattr(model.get_submodule(parent), last, LoraLinear(layer, rank, alpha))


def merge_stored(model: nn.Module, weights: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Return the weights of a model with adapters as those of `merge`, each computed when it is read."""
    merged = dict(weights)
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLinear):
            b, a = merged.pop(f"{name}.lora_b"), merged.pop(f"{name}.lora_a")
            plain = merged[f"{name}.weight"]
            compute = partial(_merge_one, plain, layer.scale, b, a)
            merged[f"{name}.weight"] = compute_stored(plain.shape, plain.dtype, compute)
    return merged


def _merge_one(plain: StoredTensor, scale: float, b: StoredTensor, a: StoredTensor) -> Tensor:
    return plain.read_all() + scale * b.read_all() @ a.read_all()


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Add the low-rank products to the weights, in place, and restore plain linear layers."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLinear):
            plain = nn.Linear(
                layer.in_features, layer.out_features, layer.bias is not None, device="meta"
            )
            plain.weight = nn.Parameter(layer.weight + layer.scale * layer.lora_b @ layer.lora_a)
            plain.bias = layer.bias
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, plain)
