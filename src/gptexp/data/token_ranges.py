"""Token numbers that are read by ranges: of files on this machine, or of a store that a network is in between."""

from collections.abc import Callable, Sequence
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


# Raises an error for tokens that are damaged: (number of the file, tokens of it, position of the first one in it).
TokenCheck = Callable[[int, NDArray, int], None]


class MappedTokens:
    """The tokens of memory-mapped files, one file after the other: only the parts that are read take memory.

    Args:
        parts: arrays of token numbers, at least one.
        check: is called with all tokens that are read.
        dtype: type of the tokens that are read; None: that of the arrays.
    """

    is_local = True

    def __init__(
        self,
        parts: Sequence[NDArray],
        check: TokenCheck | None = None,
        dtype: np.dtype | None = None,
    ) -> None:
        self.parts = [np.asarray(part) for part in parts]
        self.check, self.dtype = check, dtype or self.parts[0].dtype
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, piece: slice, /) -> NDArray:
        start, stop, step = piece.indices(len(self))
        if step != 1:
            raise ValueError("tokens are read without a step")
        if len(self.parts) == 1:
            return self._read(0, start, stop)
        first, last = np.searchsorted(self.ends, (start, max(start, stop - 1)), side="right")
        pieces = []
        for number in range(first, min(last + 1, len(self.parts))):
            begin = int(self.ends[number]) - len(self.parts[number])
            pieces.append(self._read(number, max(0, start - begin), max(0, stop - begin)))
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate([np.empty(0, self.dtype), *pieces])

    def _read(self, number: int, start: int, stop: int) -> NDArray:
        """Return the tokens of a slice of one file."""
        tokens = self.parts[number][start:stop]
        if self.check:
            self.check(number, tokens, start)
        return tokens.astype(self.dtype, copy=False)

    def read(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray]:
        return [self[start : start + n] for start, n in zip(starts, lengths, strict=True)]

    def prefetch(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Do nothing: the operating system reads ahead."""


def first_unknown(tokens: NDArray, vocab_size: int) -> int | None:
    """Return the position of the first token that is not in the vocabulary; None: all are."""
    if not len(tokens) or 0 <= tokens.min() <= tokens.max() < vocab_size:
        return None
    return int(np.argmax((tokens < 0) | (tokens >= vocab_size)))
