"""Next-sentence prediction (Devlin et al. 2018): does the second text follow the first, or is it from elsewhere?

A stored sequence is `A sep B eos`, both parts from one document. In half of them B is exchanged for that of another
document whose B is about as long, so that no length tells the answer. Which ones, and for what, is a function of
(seed, epoch, sequence).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.data.batch import IGNORE, Batch
from gptexp.data.datasets.windows import ExampleDataset
from gptexp.data.token_store import TokenStore
from gptexp.model.loss import LossCounts

FOLLOWS, ELSEWHERE = 1, 0
NEIGHBOURS = 16  # candidates for an exchange, by length of B, on either side


class NextSentenceDataset(ExampleDataset):
    def __init__(self, store: TokenStore, split: str, seed: int | None) -> None:
        super().__init__(store, split)
        self.seed = seed or 0
        self.by_length = np.argsort(self.index["length"] - self.index["prefix"], kind="stable")
        self.place = np.empty_like(self.by_length)
        self.place[self.by_length] = np.arange(len(self.by_length))

    def batch(self, indices: NDArray[np.int64], epoch: int, whole: NDArray[np.int64]) -> Batch:
        pairs = {index: self.pair(index, epoch) for index in dict.fromkeys(whole.tolist())}
        rows = [pairs[index] for index in indices.tolist()]
        lengths = [len(first) + len(second) for first, second, _ in rows]
        tokens = np.full((len(rows), max(lengths, default=1)), self.pad, np.int64)
        for row, (first, second, _) in enumerate(rows):
            tokens[row, : lengths[row]] = np.concatenate((first, second))
        return Batch(
            torch.from_numpy(tokens),
            torch.full(tokens.shape, IGNORE),
            LossCounts(
                labels=len(whole),
                tokens=sum(len(pairs[index][0]) + len(pairs[index][1]) for index in whole.tolist()),
            ),
            lengths=torch.tensor(lengths, dtype=torch.int64),
            prefix=torch.tensor([len(first) for first, *_ in rows], dtype=torch.int64),
            labels=torch.tensor([label for *_, label in rows], dtype=torch.int64),
            examples=torch.from_numpy(indices),
        )

    def pair(self, index: int, epoch: int) -> tuple[NDArray, NDArray, int]:
        """`A sep`, `B eos` and the label of a sequence."""
        rng = np.random.default_rng([self.seed, epoch, index])
        first, second = self._parts(index)
        if rng.random() < 0.5:
            return first, second, FOLLOWS
        low = max(0, min(self.place[index] - NEIGHBOURS, len(self) - 2 * NEIGHBOURS - 1))
        for candidate in self.by_length[
            rng.permutation(np.arange(low, min(len(self), low + 2 * NEIGHBOURS + 1)))
        ]:
            other = self._parts(candidate)[1]
            if not np.array_equal(other, second):  # another document may say the same
                return first, other, ELSEWHERE
        return first, second, FOLLOWS

    def _parts(self, index: int) -> tuple[NDArray, NDArray]:
        offset, length, given, *_ = self.index[index]
        return self.tokens[offset : offset + given], self.tokens[offset + given : offset + length]
