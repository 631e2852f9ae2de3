"""From the store to sequences with targets: windows of a token stream, or one padded sequence an example.

Whatever a rank computes, it knows the number of valid targets of the whole global batch before anything is computed.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.data.batch import IGNORE, Batch
from gptexp.data.permutation import splitmix64
from gptexp.data.token_store import TokenStore
from gptexp.errors import UserError
from gptexp.model.loss import LossCounts


class SequenceDataset(ABC):
    """The sequences of one split."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: NDArray[np.int64], epoch: int, whole: NDArray[np.int64]) -> Batch:
        """The sequences `indices`, a rank's share of the global batch `whole`."""


class Windows(SequenceDataset):
    """Windows of `context` tokens over a split's stream; each target is counted once.

    In training the windows of epoch e start at an offset drawn from (seed, e): the same text is cut anew.
    """

    def __init__(
        self, store: TokenStore, split: str, context: int, seed: int | None, document_mask: bool
    ) -> None:
        self.tokens = store.tokens(split)
        self.context, self.seed, self.eos = context, seed, store.tokenizer.eos
        self.document_mask = document_mask
        needed = 2 if seed is None else context + 1
        if len(self.tokens) < needed:
            raise UserError(
                f"the {split} split has {len(self.tokens)} tokens, shorter than one context of "
                f"model.context={context}: give more text, or a shorter context"
                if seed is not None
                else f"the {split} split has {len(self.tokens)} token(s), too few to score: give more text"
            )
        targets = len(self.tokens) - 1
        # Training leaves one window's worth of room for the offset and uses whole windows only.
        self.count = max(1, targets // context - 1) if seed is not None else -(-targets // context)

    def __len__(self) -> int:
        return self.count

    def _sizes(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Targets of the windows that start there: the last one may be shorter."""
        return np.minimum(self.context, len(self.tokens) - 1 - starts)

    def batch(self, indices: NDArray[np.int64], epoch: int, whole: NDArray[np.int64]) -> Batch:
        offset = self._offset(epoch)
        starts = indices * self.context + offset
        sizes, total = self._sizes(starts), int(self._sizes(whole * self.context + offset).sum())
        longest = int(sizes.max(initial=1))
        tokens = np.full((len(indices), longest), self.eos, np.int64)
        targets = np.full((len(indices), longest), IGNORE, np.int64)
        for row, start in enumerate(starts):
            window = self.tokens[start : start + longest + 1].astype(np.int64)
            tokens[row, : len(window) - 1] = window[:-1]
            targets[row, : len(window) - 1] = window[1:]
        documents = None
        if self.document_mask:  # a document ends with its end-of-text token
            documents = torch.from_numpy(np.cumsum(np.roll(tokens == self.eos, 1, axis=1), axis=1))
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(targets),
            LossCounts(targets=total, tokens=total),
            documents,
            lengths=None if (sizes == longest).all() else torch.from_numpy(sizes),
            examples=torch.from_numpy(indices),
        )

    def _offset(self, epoch: int) -> int:
        room = len(self.tokens) - 1 - self.count * self.context
        if self.seed is None or room <= 0:
            return 0
        key = (self.seed * 1_000_003 + epoch) % 2**64
        return int(splitmix64(np.array([key], np.uint64))[0] % np.uint64(room + 1))


class ExampleDataset(SequenceDataset):
    """One sequence an example, as the index of the store has it."""

    def __init__(self, store: TokenStore, split: str) -> None:
        self.tokens, self.index, self.pad = (
            store.tokens(split),
            store.index(split),
            store.tokenizer.pad,
        )

    def __len__(self) -> int:
        return len(self.index)


class TokenClassificationDataset(ExampleDataset):
    """Tokens, and stored behind them a tag for each, which is its target."""

    def batch(self, indices: NDArray[np.int64], epoch: int, whole: NDArray[np.int64]) -> Batch:
        rows = self.index[indices]
        longest = max(1, int(rows["prefix"].max())) if len(rows) else 1
        tokens = np.full((len(rows), longest), self.pad, np.int64)
        targets = np.full((len(rows), longest), IGNORE, np.int64)
        for row, (offset, length, given, *_) in enumerate(rows):
            tokens[row, :given] = self.tokens[offset : offset + given]
            targets[row, :given] = self.tokens[offset + given : offset + length]
        total = int(self.index[whole]["prefix"].sum())
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(targets),
            LossCounts(targets=total, tokens=total),
            lengths=torch.from_numpy(rows["prefix"].astype(np.int64)),
            examples=torch.from_numpy(indices),
        )
