"""Losses as sums over a part of a batch, and the counts of the whole batch to divide them by."""

from typing import NamedTuple

import torch
from torch import Tensor


class LossCounts(NamedTuple):
    """Divisors of the loss: counts over a whole global batch, or over a whole split."""

    targets: int = 0  # valid targets
    labels: int = 0  # labels of whole sequences
    tokens: int = 0  # tokens, padding aside

    def plus(self, other: "LossCounts") -> "LossCounts":
        return LossCounts(*map(sum, zip(self, other, strict=True)))


class LossSums(NamedTuple):
    """Losses in nats, summed over a part of a global batch. A tuple, so that FSDP finds the tensors in it."""

    targets: Tensor  # cross-entropy, summed over valid targets
    labels: Tensor  # cross-entropy, summed over labels of whole sequences
    auxiliary: Tensor  # weighted extra terms, summed over tokens
    statistics: Tensor = torch.zeros(0)  # [n], summed over tokens; Transformer.report names them

    def plus(self, other: "LossSums") -> "LossSums":
        return LossSums(*(a + b for a, b in zip(self, other, strict=True)))

    def mean(self, counts: LossCounts) -> Tensor:
        """Return what these sums contribute to the mean loss: nats a target, a label, and a token."""
        return (
            self.targets / max(1, counts.targets)
            + self.labels / max(1, counts.labels)
            + self.auxiliary / max(1, counts.tokens)
        )
