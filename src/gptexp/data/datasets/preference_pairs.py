"""Pairs of answers to one prompt: the chosen answer and the rejected one, side by side in one row of a batch.

A stored sequence is `prompt chosen rejected`. A batch has tokens and targets [B, T, 2], so that whatever takes its rows
apart leaves a pair together: the ranks, the micro-batches and the cut to the longest sequence.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptexp.data.batch import IGNORE, Batch
from gptexp.data.datasets.dataset import ExampleDataset
from gptexp.data.token_store import TokenStore
from gptexp.loss import LossCounts, PreferenceLoss


class PairTokens(NamedTuple):
    """The tokens of a prompt and of its answers, whose last tokens end them."""

    prompt: Sequence[int] | NDArray[np.int64]
    chosen: Sequence[int] | NDArray[np.int64]
    rejected: Sequence[int] | NDArray[np.int64]


class PreferencePairs(ExampleDataset):
    """The pairs of a split.

    Args:
        reference: [N, 2], log-probabilities of the answers before training; None: batches have none, and no loss.
    """

    def __init__(
        self,
        store: TokenStore,
        split: str,
        preference: PreferenceLoss,
        reference: NDArray[np.float32] | None,
    ) -> None:
        super().__init__(store, split)
        self.preference, self.reference = preference, reference

    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        pairs = [self.pair(index) for index in indices.tolist()]
        tokens, targets = pad_pairs(pairs, self.pad)
        entries = self.index[global_indices]
        counts = LossCounts(
            targets=int(entries["targets"].sum()),
            labels=len(entries),
            tokens=int((entries["length"] + entries["prefix"] - 2).sum()),
        )
        lengths = [len(p.prompt) + max(len(p.chosen), len(p.rejected)) - 1 for p in pairs]
        reference = None if self.reference is None else torch.from_numpy(self.reference[indices])
        return Batch(
            tokens,
            targets,
            counts,
            lengths=torch.tensor(lengths, dtype=torch.int64),
            examples=torch.from_numpy(indices),
            reference=reference,
            preference=self.preference,
        )

    def pair(self, index: int) -> PairTokens:
        """Return the tokens of a pair."""
        entry = self.index[index]
        start, end = int(entry["offset"]), int(entry["offset"] + entry["length"])
        tokens = self.tokens[start:end].astype(np.int64)
        prefix, middle = int(entry["prefix"]), int(entry["prefix"] + entry["targets"])
        return PairTokens(tokens[:prefix], tokens[prefix:middle], tokens[middle:])


def pad_pairs(pairs: Sequence[PairTokens], pad: int) -> tuple[Tensor, Tensor]:
    """Return the tokens [B, T, 2] of pairs, padded on the right, and their targets: the answers."""
    longest = max((len(p.prompt) + max(len(p.chosen), len(p.rejected)) for p in pairs), default=2)
    tokens = np.full((len(pairs), longest, 2), pad, np.int64)
    targets = np.full((len(pairs), longest - 1, 2), IGNORE, np.int64)
    for row, (prompt, *answers) in enumerate(pairs):
        start = len(prompt)
        for side, answer in enumerate(answers):
            end = start + len(answer)
            tokens[row, :start, side], tokens[row, start:end, side] = prompt, answer
            targets[row, start - 1 : end - 1, side] = answer
    return torch.from_numpy(tokens[:, :-1]), torch.from_numpy(targets)
