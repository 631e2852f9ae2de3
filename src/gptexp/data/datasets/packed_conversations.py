"""Conversations whose targets are the tokens that the store marks as learned: one a sequence, or packed by best fit.

A packed conversation reads no other one of its window, and its positions restart: the loss is that of one a sequence.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.data.batch import IGNORE, Batch
from gptexp.data.datasets.dataset import ExampleDataset, SequenceDataset
from gptexp.data.datasets.packed_documents import best_fit
from gptexp.data.permutation import splitmix64
from gptexp.data.token_store import TokenStore, read_bits
from gptexp.loss import LossCounts


class ConversationDataset(ExampleDataset):
    """One conversation a sequence, padded on the right."""

    def __init__(self, store: TokenStore, split: str) -> None:
        super().__init__(store, split)
        self.learned = store.learned(split)

    def read(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return all tokens [T] of a conversation but the last, and the target of each or IGNORE."""
        entry = self.index[index]
        start, length = int(entry["offset"]), int(entry["length"])
        tokens = self.tokens[start : start + length].astype(np.int64)
        learned = read_bits(self.learned, start, length)
        return tokens[:-1], np.where(learned[1:], tokens[1:], IGNORE)

    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        lengths = self.index["length"][indices].astype(np.int64) - 1
        shape = len(indices), int(lengths.max(initial=1))
        tokens = np.full(shape, self.pad, np.int64)
        targets = np.full(shape, IGNORE, np.int64)
        for row, (index, length) in enumerate(zip(indices, lengths, strict=True)):
            tokens[row, :length], targets[row, :length] = self.read(index)
        entries = self.index[global_indices]
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(targets),
            LossCounts(
                targets=int(entries["targets"].sum()), tokens=int((entries["length"] - 1).sum())
            ),
            lengths=torch.from_numpy(lengths),
            examples=torch.from_numpy(indices),
        )


class PackedConversations(SequenceDataset):
    """Windows of `context` positions that each hold several whole conversations.

    The windows follow from the seed and stay the same in all epochs. They take about 20 bytes of memory a conversation.
    """

    def __init__(self, store: TokenStore, split: str, context: int, seed: int) -> None:
        self.conversations, self.context = ConversationDataset(store, split), context
        index = self.conversations.index
        lengths = index["length"].astype(np.int64) - 1
        key = splitmix64(np.array([seed % 2**64], np.uint64))
        keys = splitmix64(np.arange(len(lengths), dtype=np.uint64) ^ key)
        windows = best_fit(lengths, context, keys)
        self.order = np.lexsort((keys, windows))
        first = np.searchsorted(windows[self.order], np.arange(windows.max() + 2))
        self.first = first  # of a window, in `order`
        self.targets, self.lengths = (
            np.add.reduceat(values[self.order], first[:-1], dtype=np.int64)
            for values in (index["targets"], lengths)
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        shape = len(indices), self.context
        tokens = np.full(shape, self.conversations.pad, np.int64)
        targets = np.full(shape, IGNORE, np.int64)
        documents = np.zeros(shape, np.int64)
        positions = np.zeros(shape, np.int64)
        for row, index in enumerate(indices):
            start = 0
            members = self.order[self.first[index] : self.first[index + 1]]
            for number, member in enumerate(members):
                inputs, outputs = self.conversations.read(member)
                place = slice(start, start + len(inputs))
                tokens[row, place], targets[row, place] = inputs, outputs
                documents[row, place], positions[row, place] = number, np.arange(len(inputs))
                start += len(inputs)
            documents[row, start:] = len(members)  # padding is a document of its own
            positions[row, start:] = np.arange(self.context - start)
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(targets),
            LossCounts(
                targets=int(self.targets[global_indices].sum()),
                tokens=int(self.lengths[global_indices].sum()),
            ),
            torch.from_numpy(documents),
            examples=torch.from_numpy(indices),
            positions=torch.from_numpy(positions),
        )
