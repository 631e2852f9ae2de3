"""What every task hands to the model.  B sequences, T tokens."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from gptexp.model.loss import LossCounts

IGNORE = -100  # a position without loss
FEATURE = -1  # a position without a token: the next row of features stands there


@dataclass
class Batch:
    tokens: (
        Tensor  # [B, T] int64, padded on the right; FEATURE where a row of features stands instead
    )
    targets: Tensor  # [B, T] int64, the token to be predicted at each position, or IGNORE
    counts: LossCounts  # of the whole global batch, over all ranks: the loss is divided by them
    documents: Tensor | None = None  # [B, T] int64, attention stays among equal numbers
    lengths: Tensor | None = None  # [B] int64, tokens of each sequence; None: all have T
    prefix: Tensor | None = (
        None  # [B] int64, length of the part that is given (bidirectional under a prefix mask)
    )
    labels: Tensor | None = None  # [B] int64, class of each sequence
    examples: Tensor | None = (
        None  # [B] int64, index of each sequence in its split, to name it in a crash record
    )
    features: Tensor | None = (
        None  # [B, F, size] uint8, rows that stand where tokens are negative, in their order
    )
    masked_rows: Tensor | None = None  # [B, F] bool, rows that the model must do without

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def inputs(self) -> dict[str, Any]:
        """What the model's loss takes."""
        names = (
            "tokens",
            "targets",
            "documents",
            "prefix",
            "lengths",
            "labels",
            "features",
            "masked_rows",
        )
        return {name: getattr(self, name) for name in names}

    def split(self, size: int | None = None, tokens: int | None = None) -> Iterator[Self]:
        """Micro-batches of sequences of similar length, each cut to its own longest.

        At most `size` sequences and, where there is more than one, `tokens` tokens (padding included) in each.
        """
        whole = torch.full((len(self),), self.tokens.shape[1], device=self.tokens.device)
        lengths, order = (whole if self.lengths is None else self.lengths).sort(
            descending=True, stable=True
        )
        start = 0
        while start < len(self):
            longest = int(lengths[start])
            rows = min(size or len(self), max(1, tokens // longest) if tokens else len(self))
            chosen = order[start : start + rows]
            yield self._map(
                lambda x, chosen=chosen, longest=longest: (
                    x[chosen, :longest] if x.ndim > 1 else x[chosen]
                )
            )
            start += rows

    def rows(self, chosen: slice | Tensor) -> Self:
        """Some of the sequences; the counts stay those of the whole global batch."""
        return self._map(lambda tensor: tensor[chosen])

    def to(self, device: torch.device, non_blocking: bool = True) -> Self:
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function) -> Self:  # type: ignore[no-untyped-def]
        tensors = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor)
        }
        return replace(self, **{name: function(tensor) for name, tensor in tensors.items()})
