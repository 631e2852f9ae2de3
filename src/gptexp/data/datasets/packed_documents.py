"""Windows of whole documents, packed by best fit (Ding et al. 2024, arXiv 2404.10830).

Windows over a stream cut documents wherever a window ends: a model then learns to continue text whose beginning it
cannot see. Here only documents that are longer than a window are cut, and their pieces fill windows of their own.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.data.batch import IGNORE, Batch
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.permutation import splitmix64
from gptexp.data.token_ranges import TokenRanges
from gptexp.data.token_store import TokenStore
from gptexp.errors import UserError
from gptexp.loss import LossCounts
from gptexp.wording import format_count

SCANNED_TOKENS = 1 << 24  # at once, for the ends of documents


class PackedDocuments(SequenceDataset):
    """Windows of at most `context` positions; each holds whole documents or one piece of a longer document.

    Every token of the stream is the target of one window, except the first token of each window. The end-of-text token
    of a document predicts the first token of the next one, as in windows over the stream. Pieces of a document share
    one token, the last target of a piece and the first input of the next.

    The windows follow from the seed and stay the same in all epochs. They take about 20 bytes of memory a document.
    """

    def __init__(
        self, store: TokenStore, split: str, context: int, seed: int, document_mask: bool
    ) -> None:
        self.tokens = store.tokens(split)
        self.context, self.eos, self.document_mask = context, store.tokenizer.eos, document_mask
        if not self.tokens.is_local:
            raise UserError(
                "task.packing=best_fit: reads all tokens to find the documents, and data.path is on the network. Use "
                "task.packing=stream, or copy the store to this machine"
            )
        if len(self.tokens) < 2:
            raise UserError(
                f"the {split} split has {format_count(len(self.tokens), 'token')}, too few to train on: "
                f"give more text"
            )
        starts, lengths, is_later = cut_documents(find_ends(self.tokens, self.eos), context)
        key = splitmix64(np.array([seed % 2**64], np.uint64))
        keys = splitmix64(np.arange(len(lengths), dtype=np.uint64) ^ key)
        windows = best_fit(lengths, context + 1, keys)
        order = np.lexsort((keys, windows))
        self.starts, self.lengths = starts[order], lengths[order]
        # A later piece of a document has no target before it, where it is not the first in its window.
        self.is_later = is_later[order]
        self.first = np.searchsorted(windows[order], np.arange(windows.max() + 2))  # of a window
        is_first = np.zeros(len(order), bool)
        is_first[self.first[:-1]] = True
        targets = self.lengths - (is_first | self.is_later)
        self.targets = np.add.reduceat(targets, self.first[:-1], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.targets)

    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        shape = len(indices), self.context
        tokens = np.full(shape, self.eos, np.int64)
        targets = np.full(shape, IGNORE, np.int64)
        documents = np.zeros(shape, np.int64)
        for row, index in enumerate(indices):
            self._fill(index, tokens[row], targets[row], documents[row])
        total = int(self.targets[global_indices].sum())
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(targets),
            LossCounts(targets=total, tokens=total),
            torch.from_numpy(documents) if self.document_mask else None,
            examples=torch.from_numpy(indices),
        )

    def _fill(
        self,
        index: int,
        tokens: NDArray[np.int64],
        targets: NDArray[np.int64],
        documents: NDArray[np.int64],
    ) -> None:
        """Write a window into rows [T]. The rest of each row is a document of its own, without targets."""
        pieces = slice(self.first[index], self.first[index + 1])
        starts, lengths = self.starts[pieces], self.lengths[pieces]
        window = np.concatenate(
            [self.tokens[start : start + n] for start, n in zip(starts, lengths, strict=True)]
        ).astype(np.int64)
        ends = np.cumsum(lengths)
        count = len(window) - 1
        tokens[:count], targets[:count] = window[:-1], window[1:]
        targets[ends[:-1][self.is_later[pieces][1:]] - 1] = IGNORE
        documents[ends[ends < self.context]] = 1
        np.cumsum(documents, out=documents)


def find_ends(tokens: TokenRanges | NDArray, eos: int) -> NDArray[np.int64]:
    """Return the end of each document: the position after its end-of-text token, or after the last token."""
    parts = [
        np.flatnonzero(tokens[start : start + SCANNED_TOKENS] == eos) + start + 1
        for start in range(0, len(tokens), SCANNED_TOKENS)
    ]
    ends = np.concatenate(parts)
    return ends if len(ends) and ends[-1] == len(tokens) else np.append(ends, len(tokens))


def cut_documents(
    ends: NDArray[np.int64], context: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Cut documents into pieces of at most context + 1 tokens, which share one token with the next piece.

    Returns:
        The starts and lengths of the pieces, and whether each is a later piece of its document.
    """
    starts = np.concatenate(([0], ends[:-1]))
    counts = np.maximum(1, -(-(ends - starts - 1) // context))  # pieces of each document
    first = np.repeat(np.cumsum(counts) - counts, counts)
    number = np.arange(len(first)) - first  # of a piece in its document
    piece_starts = np.repeat(starts, counts) + number * context
    lengths = np.minimum(context + 1, np.repeat(ends, counts) - piece_starts)
    return piece_starts, lengths, number > 0


def best_fit(lengths: NDArray[np.int64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of the bin of each item by best fit decreasing: the fullest bin that still has room.

    Items of one length are taken together (Krell et al. 2021, arXiv 2107.02027), so that the time depends on the
    number of different lengths.

    Args:
        lengths: [N], from 1 to `size`.
        size: of a bin.
        keys: [N], the order among items of one length.
    """
    order = np.lexsort((keys, -lengths))
    ordered = lengths[order]
    bins = np.empty(len(lengths), np.int64)  # of the ordered items
    bins_by_room: dict[int, list[NDArray[np.int64]]] = {}
    rooms = 0  # bit r is set where a bin has room for r
    num_bins = start = 0
    while start < len(ordered):
        length = int(ordered[start])
        end = int(np.searchsorted(-ordered, -length, side="right"))
        while start < end:
            fitting = rooms >> length
            room = length + (fitting & -fitting).bit_length() - 1 if fitting else size
            per_bin = room // length
            limit = -(-(end - start) // per_bin)  # bins that these items can fill
            if fitting:
                targets, rest = np.split(bins_by_room[room].pop(), [limit])
                if len(rest):
                    bins_by_room[room].append(rest)
                if not bins_by_room[room]:
                    rooms ^= 1 << room
            else:
                targets = np.arange(num_bins, num_bins + limit)
                num_bins += limit
            count = min(end - start, per_bin * len(targets))
            bins[start : start + count] = np.repeat(targets, per_bin)[:count]
            start += count
            count_in_last = count - per_bin * (len(targets) - 1)
            for part, items in ((targets[:-1], per_bin), (targets[-1:], count_in_last)):
                left = room - items * length
                if len(part) and left:
                    bins_by_room.setdefault(left, []).append(part)
                    rooms |= 1 << left
    result = np.empty_like(bins)
    result[order] = bins
    return result
