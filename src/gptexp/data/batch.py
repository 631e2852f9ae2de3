"""The batch that every task hands to the model.

Legend: B sequences, T tokens, F rows of features, D their size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from gptexp.loss import LossCounts, PreferenceLoss

IGNORE = -100  # target of a position without loss
FEATURE = -1  # token of a position where a row of features is embedded
INPUTS = (
    "tokens",
    "targets",
    "documents",
    "prefix",
    "lengths",
    "labels",
    "features",
    "masked_rows",
)


@dataclass
class Batch:
    """Sequences that one rank computes, and the counts of the global batch that they are a part of.

    Attributes:
        tokens: [B, T] int64, padded on the right; FEATURE where a row of features is embedded instead.
        targets: [B, T] int64, the token to predict at each position, or IGNORE.
        counts: of the whole global batch, over all ranks, to divide the loss by.
        documents: [B, T] int64, document of each token; attention stays inside of a document.
        lengths: [B] int64, tokens of each sequence; None: all have T.
        prefix: [B] int64, length of the prompt, which a prefix mask shows to all positions.
        labels: [B] int64, class of each sequence.
        examples: [B] int64, index of each sequence in its split, for crash records.
        features: [B, F, D] uint8, rows to embed at the positions of FEATURE, in their order.
        masked_rows: [B, F] bool, rows of features whose embedding is replaced by a learned one.
        positions: [B, T] int64, of each token in its document; None: in its sequence.
        reference: [B, 2] float32, of a batch of pairs, whose tokens and targets are [B, T, 2] (the chosen answer and
            the rejected one, each behind the prompt): log-probabilities of the answers before training.
        preference: the loss of a batch of pairs.
    """

    tokens: Tensor
    targets: Tensor
    counts: LossCounts
    documents: Tensor | None = None
    lengths: Tensor | None = None
    prefix: Tensor | None = None
    labels: Tensor | None = None
    examples: Tensor | None = None
    features: Tensor | None = None
    masked_rows: Tensor | None = None
    positions: Tensor | None = None
    reference: Tensor | None = None
    preference: PreferenceLoss | None = None

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def inputs(self) -> dict[str, Any]:
        """Return the arguments of Transformer.loss. The answers of a pair are two rows, one after the other."""
        inputs = {name: getattr(self, name) for name in INPUTS}
        if self.positions is not None:
            inputs["positions"] = self.positions
        if self.preference is None:
            return inputs
        pairs = {name: pairs_to_rows(inputs[name]) for name in ("tokens", "targets")}
        lengths = None if self.lengths is None else self.lengths.repeat_interleave(2)
        more = {"reference": self.reference, "preference": self.preference}
        return {**inputs, **pairs, "lengths": lengths, **more}

    def sides(self) -> list[Self]:
        """Return batches of the chosen and of the rejected answers, labelled 0 and 1; without pairs, this batch."""
        if self.preference is None:
            return [self]
        batches = []
        for side in (0, 1):
            tokens, targets = self.tokens[..., side], self.targets[..., side]
            positions = torch.arange(1, targets.shape[1] + 1, device=targets.device)
            lengths = (positions * (targets != IGNORE)).amax(dim=1)  # an answer is last
            labels = torch.full((len(self),), side)
            batch = replace(self, tokens=tokens, targets=targets, lengths=lengths, labels=labels)
            batches.append(replace(batch, reference=None, preference=None))
        return batches

    def split(self, size: int | None = None, tokens: int | None = None) -> Iterator[Self]:
        """Yield micro-batches of sequences of similar length, each cut to its longest sequence.

        Args:
            size: largest number of sequences.
            tokens: largest number of tokens, padding included, of a micro-batch with several sequences.
        """
        lengths = self.lengths
        if lengths is None:
            lengths = torch.full((len(self),), self.tokens.shape[1], device=self.tokens.device)
        lengths, order = lengths.sort(descending=True, stable=True)
        start = 0
        while start < len(self):
            longest = int(lengths[start])
            answers = 1 if self.preference is None else 2
            fitting = max(1, tokens // (longest * answers)) if tokens else len(self)
            rows = min(size or len(self), fitting)
            yield self.rows(order[start : start + rows], longest)
            start += rows

    def rows(self, rows: slice | Tensor, longest: int | None = None) -> Self:
        """Return some of the sequences, cut to `longest` positions; the counts stay those of the global batch."""
        return self._map(lambda x: x[rows, :longest] if x.ndim > 1 else x[rows])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        changed: dict[str, Any] = {name: function(tensor) for name, tensor in tensors.items()}
        return replace(self, **changed)


def pairs_to_rows(pairs: Tensor) -> Tensor:
    """Turn pairs [B, T, 2] into rows [2 B, T], the chosen answer of a pair before the rejected one."""
    return pairs.transpose(1, 2).flatten(0, 1)
