"""Token numbers that are read by ranges: of files on this machine, or of a store that a network is in between."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TokenRanges(Protocol):
    """The token numbers [N] of a split, one example after the other."""

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def is_local(self) -> bool:
        """Whether a read costs no request, so that all tokens can be scanned in any order."""

    def __len__(self) -> int: ...

    def __getitem__(self, piece: slice, /) -> NDArray:
        """Return the tokens of a slice without a step, as that of an array."""

    def read(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray]:
        """Return the tokens of each range, read together; a range that passes the end is cut there."""

    def prefetch(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Begin to read ranges that `read` will be called with soon, and return at once."""


class MappedTokens:
    """The tokens of memory-mapped files, one file after the other: only the parts that are read take memory.

    Args:
        parts: arrays of token numbers of one type, at least one.
    """

    is_local = True

    def __init__(self, parts: Sequence[NDArray]) -> None:
        self.parts = [np.asarray(part) for part in parts]
        self.dtype = self.parts[0].dtype
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, piece: slice, /) -> NDArray:
        start, stop, step = piece.indices(len(self))
        if step != 1:
            raise ValueError("tokens are read without a step")
        if len(self.parts) == 1:
            return self.parts[0][start:stop]
        first, last = np.searchsorted(self.ends, (start, max(start, stop - 1)), side="right")
        pieces = []
        for number in range(first, min(last + 1, len(self.parts))):
            begin = self.ends[number] - len(self.parts[number])
            pieces.append(self.parts[number][max(0, start - begin) : max(0, stop - begin)])
        return pieces[0] if len(pieces) == 1 else np.concatenate([self.parts[0][:0], *pieces])

    def read(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray]:
        return [self[start : start + n] for start, n in zip(starts, lengths, strict=True)]

    def prefetch(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Do nothing: the operating system reads ahead."""
