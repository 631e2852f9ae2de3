"""Next-sentence prediction (Devlin et al. 2018): does the second text follow the first, or is it from elsewhere?

A stored sequence is `A sep B eos`, both texts from one document. In half of the sequences B is replaced by that of
another document whose B is about as long, so that the length says nothing about the label. Which sequences, and by
which B, follows from (seed, epoch, sequence).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.data.batch import IGNORE, Batch
from gptexp.data.datasets.dataset import ExampleDataset
from gptexp.data.token_store import TokenStore
from gptexp.loss import LossCounts

NEXT, NOT_NEXT = 1, 0
NEIGHBOURS = 16  # candidates for a replacement, by length of B, on either side


class NextSentenceDataset(ExampleDataset):
    def __init__(self, store: TokenStore, split: str, seed: int | None) -> None:
        super().__init__(store, split)
        self.seed = seed or 0
        self.by_length = np.argsort(self.index["length"] - self.index["prefix"], kind="stable")
        self.rank = np.empty_like(self.by_length)  # position of each sequence in `by_length`
        self.rank[self.by_length] = np.arange(len(self.by_length))

    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        distinct = dict.fromkeys(global_indices.tolist())
        pairs = {index: self.pair(index, epoch) for index in distinct}
        rows = [pairs[index] for index in indices.tolist()]
        lengths = [len(first) + len(second) for first, second, _ in rows]
        tokens = np.full((len(rows), max(lengths, default=1)), self.pad, np.int64)
        for row, (first, second, _) in enumerate(rows):
            tokens[row, : lengths[row]] = np.concatenate((first, second))
        total = sum(len(pairs[i][0]) + len(pairs[i][1]) for i in global_indices.tolist())
        return Batch(
            torch.from_numpy(tokens),
            torch.full(tokens.shape, IGNORE),
            LossCounts(labels=len(global_indices), tokens=total),
            lengths=torch.tensor(lengths, dtype=torch.int64),
            prefix=torch.tensor([len(first) for first, *_ in rows], dtype=torch.int64),
            labels=torch.tensor([label for *_, label in rows], dtype=torch.int64),
            examples=torch.from_numpy(indices),
        )

    def pair(self, index: int, epoch: int) -> tuple[NDArray, NDArray, int]:
        """Return `A sep`, `B eos` and the label of a sequence."""
        rng = np.random.default_rng([self.seed, epoch, index])
        first, second = self._parts(index)
        if rng.random() < 0.5:
            return first, second, NEXT
        low = max(0, min(self.rank[index] - NEIGHBOURS, len(self) - 2 * NEIGHBOURS - 1))
        neighbours = np.arange(low, min(len(self), low + 2 * NEIGHBOURS + 1))
        for candidate in self.by_length[rng.permutation(neighbours)]:
            other = self._parts(candidate)[1]
            if not np.array_equal(other, second):  # another document can have the same text
                return first, other, NOT_NEXT
        return first, second, NEXT

    def _parts(self, index: int) -> tuple[NDArray, NDArray]:
        offset, length, prefix, *_ = self.index[index]
        middle = offset + prefix
        return self.tokens[offset:middle], self.tokens[middle : offset + length]
