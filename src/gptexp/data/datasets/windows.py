"""Windows over the token stream of a split."""

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.data.batch import IGNORE, Batch
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.permutation import splitmix64
from gptexp.data.token_store import TokenStore
from gptexp.errors import UserError
from gptexp.loss import LossCounts
from gptexp.wording import format_count


class TokenWindows(SequenceDataset):
    """Windows of `context` tokens; each token of the stream is the target of one window.

    In training, the windows of an epoch start at an offset that follows from (seed, epoch), so that each epoch cuts the
    text at other places.
    """

    def __init__(
        self, store: TokenStore, split: str, context: int, seed: int | None, document_mask: bool
    ) -> None:
        self.tokens = store.tokens(split)
        self.context, self.seed, self.eos = context, seed, store.tokenizer.eos
        self.document_mask, self.is_local = document_mask, self.tokens.is_local
        num_tokens = len(self.tokens)
        if seed is None and num_tokens < 2:
            raise UserError(
                f"the {split} split has {format_count(num_tokens, 'token')}, too few to score: give more text"
            )
        if seed is not None and num_tokens < context + 1:
            raise UserError(
                f"the {split} split has {num_tokens} tokens, shorter than one context of "
                f"model.context={context}: give more text, or a shorter context"
            )
        if seed is None:  # the last window may be shorter
            self.count = -(-(num_tokens - 1) // context)
        else:  # complete windows, and room for the offset
            self.count = max(1, (num_tokens - 1) // context - 1)

    def __len__(self) -> int:
        return self.count

    def prefetch(self, indices: NDArray[np.int64], epoch: int) -> None:
        starts = indices * self.context + self._offset(epoch)
        self.tokens.prefetch(starts, np.full(len(starts), self.context + 1))

    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        offset = self._offset(epoch)
        starts = indices * self.context + offset
        sizes = self._sizes(starts)
        total = int(self._sizes(global_indices * self.context + offset).sum())
        longest = int(sizes.max(initial=1))
        tokens = np.full((len(indices), longest), self.eos, np.int64)
        targets = np.full((len(indices), longest), IGNORE, np.int64)
        lengths = np.full(len(starts), longest + 1)
        for row, window in enumerate(self.tokens.read(starts, lengths)):
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

    def _sizes(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of targets of the windows at `starts`."""
        return np.minimum(self.context, len(self.tokens) - 1 - starts)

    def _offset(self, epoch: int) -> int:
        room = len(self.tokens) - 1 - self.count * self.context
        if self.seed is None or room <= 0:
            return 0
        key = (self.seed * 1_000_003 + epoch) % 2**64
        return int(splitmix64(np.array([key], np.uint64))[0] % np.uint64(room + 1))
