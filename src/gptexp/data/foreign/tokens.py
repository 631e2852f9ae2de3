"""The tokens of foreign files, read by ranges and compared with the vocabulary."""

from collections.abc import Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from gptexp.data.foreign.formats import TokenFile
from gptexp.data.token_ranges import MappedTokens, first_unknown
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError


class ForeignTokens:
    """The tokens of several files, one file after the other.

    Args:
        vocab_size: that no token of the files reaches.
        eos: the token that ends a document.
        ends: positions [S] in the tokens of the files at which `eos` is inserted, where documents end without it.
    """

    is_local = True

    def __init__(
        self, files: Sequence[TokenFile], vocab_size: int, eos: int, ends: NDArray[np.int64]
    ) -> None:
        self.files, self.vocab_size, self.eos, self.ends = files, vocab_size, eos, ends
        self.mapped = MappedTokens(
            [file.map_tokens() for file in files],
            self._check,
            token_dtype(max(vocab_size, eos + 1)),
        )
        self.inserted = ends + np.arange(len(ends))  # positions of the inserted tokens
        self.start, self.stop = 0, len(self.mapped) + len(ends)

    @property
    def dtype(self) -> np.dtype:
        return self.mapped.dtype

    def select(self, start: int, stop: int) -> "ForeignTokens":
        """Return the tokens from `start` to `stop`."""
        part = copy(self)
        part.start, part.stop = self.start + start, self.start + stop
        return part

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, piece: slice, /) -> NDArray:
        """Return the tokens of a slice.

        Raises:
            UserError: a token is not in the vocabulary.
        """
        start, stop, _ = piece.indices(len(self))
        start, stop = self.start + start, self.start + max(start, stop)
        first, last = np.searchsorted(self.inserted, (start, stop))
        tokens = self.mapped[start - first : stop - last]
        if first < last:
            return np.insert(tokens, self.ends[first:last] - (start - first), self.eos)
        return tokens

    def _check(self, number: int, tokens: NDArray, start: int) -> None:
        """Raise an error if a token of a file, read from position `start` on, is not in the vocabulary."""
        place = first_unknown(tokens, self.vocab_size)
        if place is not None:
            raise unknown_token(
                self.files[number], int(tokens[place]), start + place, self.vocab_size
            )

    def read(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray]:
        return [self[start : start + n] for start, n in zip(starts, lengths, strict=True)]

    def prefetch(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Do nothing: the operating system reads ahead."""


def size_of_files(tokenizer: Tokenizer) -> int:
    """Return the number that no token of files reaches: another program knows no special tokens that we add."""
    return min(tokenizer.added_ids, default=tokenizer.vocab_size)


def token_dtype(vocab_size: int) -> np.dtype:
    """Return the type of the numbers of a vocabulary: files of several types are one stream of it."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def unknown_token(file: TokenFile, token: int, place: int | None, vocab_size: int) -> UserError:
    """Return the error for a token that the tokenizer does not have; its position is None in a sample."""
    at = "" if place is None else f" at position {place:,}"
    return UserError(
        f"{file.path}: token {token:,}{at} is not in the vocabulary of the tokenizer, which has {vocab_size:,} tokens. "
        f"Name the tokenizer that made the file: tokenizer=hf tokenizer.name=gpt2, or a folder with its files"
    )
