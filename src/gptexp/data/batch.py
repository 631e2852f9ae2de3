"""What every task hands to the model.  B sequences, T tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

IGNORE = -100  # a position without loss


@dataclass
class Batch:
    tokens: Tensor  # [B, T] int64, padded on the right
    targets: Tensor  # [B, T] int64, the token to be predicted at each position, or IGNORE
    total_tokens: int  # tokens of the whole global batch, padding aside
    total_targets: int  # valid targets of the whole global batch, over all ranks: the loss is divided by it
    documents: Tensor | None = None  # [B, T] int64, attention stays among equal numbers
    prefix: Tensor | None = None  # [B] int64, length of the part that is given (bidirectional under a prefix mask)
    examples: Tensor | None = None  # [B] int64, index of each sequence in its split, to name it in a crash record

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def split(self, size: int | None) -> Iterator[Batch]:
        """Micro-batches of at most `size` sequences, each cut to its own longest."""
        size = size or len(self)
        for start in range(0, len(self), size):
            part = self._map(lambda tensor, start=start: tensor[start : start + size])
            if part.targets.shape[1] > 1:
                used = (part.targets != IGNORE).any(dim=0).nonzero()
                longest = max(1, int(used[-1]) + 1) if len(used) else 1
                part = part._map(lambda tensor, longest=longest: tensor[:, :longest] if tensor.ndim > 1 else tensor)
            yield part

    def to(self, device: torch.device, non_blocking: bool = True) -> Batch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function) -> Batch:  # type: ignore[no-untyped-def]
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **{name: function(tensor) for name, tensor in tensors.items()})
