"""The interface of all data sets: batches of the sequences of one split.

Each rank knows the counts of the whole global batch before anything is computed, so that the loss needs no all-reduce
of them.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from gptexp.data.batch import Batch
from gptexp.data.token_store import TokenStore


class SequenceDataset(ABC):
    """The sequences of one split."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        """Return the sequences `indices`, which one rank computes of the global batch `global_indices`."""


class ExampleDataset(SequenceDataset):
    """A data set with one sequence an example, as the index of the token store has it."""

    def __init__(self, store: TokenStore, split: str) -> None:
        self.tokens, self.index = store.tokens(split), store.index(split)
        self.pad = store.tokenizer.pad

    def __len__(self) -> int:
        return len(self.index)
