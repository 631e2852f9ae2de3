"""The interface of all data sets: batches of the sequences of one split.

Each rank knows the counts of the whole global batch before anything is computed, so that the loss needs no all-reduce
of them.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from gptexp.data.batch import Batch
from gptexp.data.permutation import OrderPosition, global_indices
from gptexp.data.token_store import TokenStore


class SequenceDataset(ABC):
    """The sequences of one split.

    Attributes:
        is_local: False where they come over a network, so that it pays to read ahead.
    """

    is_local = True

    @abstractmethod
    def __len__(self) -> int: ...

    def global_batch_indices(
        self, seed: int, start: OrderPosition, count: int, block: int | None
    ) -> NDArray[np.int64]:
        """Return the indices of `count` sequences of training from a position of its order (see `global_indices`)."""
        return global_indices(seed, start, count, len(self), block)

    def begin_anew(self, epoch: int, sequences_done: int) -> OrderPosition:
        """Return the position from which a run that has trained on other data goes on.

        Args:
            epoch: the first one with this data. sequences_done: those of the run so far.
        """
        return OrderPosition(epoch)

    def prefetch(self, indices: NDArray[np.int64], epoch: int) -> None:  # noqa: B027
        """Begin to read sequences that `batch` will be called with soon; only where they are not local."""

    @abstractmethod
    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        """Return the sequences `indices`, which one rank computes of the global batch `global_indices`."""


class ExampleDataset(SequenceDataset):
    """A data set with one sequence an example, as the index of the token store has it."""

    def __init__(self, store: TokenStore, split: str) -> None:
        self.tokens, self.index = store.tokens(split), store.index(split)
        self.is_local = self.tokens.is_local
        self.pad = store.tokenizer.pad

    def __len__(self) -> int:
        return len(self.index)

    def prefetch(self, indices: NDArray[np.int64], epoch: int) -> None:
        self.tokens.prefetch(self.index["offset"][indices], self.index["length"][indices])
