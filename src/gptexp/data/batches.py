"""Which batch a rank computes: by optimizer step in training, every sequence once in a held-out pass."""

import math

import numpy as np
from torch.utils.data import Dataset

from gptexp.data import permutation
from gptexp.data.batch import IGNORE, Batch
from gptexp.data.datasets.dataset import SequenceDataset


class StepIndexedDataset(Dataset):
    """Item `step` is this rank's share of the global batch of that step: a function of (seed, step, rank)."""

    def __init__(
        self, sequences: SequenceDataset, seed: int, global_batch_size: int, rank: int, ranks: int
    ) -> None:
        self.sequences, self.seed, self.global_batch_size = sequences, seed, global_batch_size
        self.rank, self.ranks = rank, ranks

    def __getitem__(self, step: int) -> Batch:
        indices = permutation.global_batch(
            self.seed, step, self.global_batch_size, len(self.sequences)
        )
        epoch = step * self.global_batch_size // len(self.sequences)
        return self.sequences.batch(indices[self.rank :: self.ranks], epoch, indices)


class HeldOutDataset(Dataset):
    """Every sequence of a held-out split exactly once over all ranks, in a fixed order.

    All ranks have the same number of batches, since sharded models compute together: a rank that has run out of
    sequences gives the first one again, without targets.
    """

    def __init__(
        self, sequences: SequenceDataset, batch: int, rank: int = 0, ranks: int = 1
    ) -> None:
        self.sequences, self.batch = sequences, batch
        self.mine = np.arange(rank, len(sequences), ranks, dtype=np.int64)
        self.batches = math.ceil(math.ceil(len(sequences) / ranks) / batch)

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> Batch:
        if number >= self.batches:
            raise IndexError(number)
        indices = self.mine[number * self.batch : (number + 1) * self.batch]
        if len(indices):
            return self.sequences.batch(indices, 0, indices)
        first = np.zeros(1, np.int64)
        filler = self.sequences.batch(first, 0, first)
        for answers in (filler.targets, filler.labels):
            if answers is not None:
                answers.fill_(IGNORE)
        return filler
