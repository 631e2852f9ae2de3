"""Sequences with a tag for each token."""

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.data.batch import IGNORE, Batch
from gptexp.data.datasets.dataset import ExampleDataset
from gptexp.loss import LossCounts


class TokenClassificationDataset(ExampleDataset):
    """Tokens and their tags, which are the targets; the store keeps the tags of an example after its tokens."""

    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        entries = self.index[indices]
        longest = max(1, int(entries["prefix"].max(initial=1)))
        tokens = np.full((len(entries), longest), self.pad, np.int64)
        targets = np.full((len(entries), longest), IGNORE, np.int64)
        for row, entry in enumerate(entries):
            start, size = entry["offset"], entry["prefix"]
            tokens[row, :size] = self.tokens[start : start + size]
            targets[row, :size] = self.tokens[start + size : start + entry["length"]]
        total = int(self.index[global_indices]["prefix"].sum())
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(targets),
            LossCounts(targets=total, tokens=total),
            lengths=torch.from_numpy(entries["prefix"].astype(np.int64)),
            examples=torch.from_numpy(indices),
        )
