"""Find passages that two examples have in common, wherever they stand in them.

Winnowing (Schleimer, Wilkerson and Aiken 2003) keeps about one n-gram in eight, so that any two texts with MIN_PASSAGE
words in a row in common share one. Texts that share one are compared in full. An n-gram of many examples, as of a
licence, says nothing.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gptexp.auditing.contamination import MAX_ITEMS_OF_NGRAM, NGRAM_WORDS, longest_run
from gptexp.auditing.words import hash_ngrams, hash_words, split_words

MIN_PASSAGE = 24  # words
WINDOW = MIN_PASSAGE - NGRAM_WORDS + 1  # of n-grams, of which the least is kept


class Passage(NamedTuple):
    """Words in a row that an example has in common with an earlier one."""

    row: int
    earlier: int
    words: int


class PassageIndex:
    """Fingerprints of all examples: about 2 bytes a word. Call `add` for each, and `add_candidate` for each again."""

    def __init__(self) -> None:
        self._hashes, self._rows = bytearray(), bytearray()
        self._pairs: list[tuple[int, int]] = []
        self._ngrams: dict[int, NDArray[np.uint64]] = {}  # of candidates
        self._candidates: set[int] = set()

    def add(self, row: int, text: str) -> None:
        ngrams = _ngrams(text)
        if len(ngrams) >= WINDOW:
            kept = np.unique(sliding_window_view(ngrams, WINDOW).min(axis=1))
            self._hashes += kept.tobytes()
            self._rows += np.full(len(kept), row, np.int64).tobytes()

    def find_candidates(self) -> None:
        """Pair each example with the one before it that has the same n-gram."""
        hashes, rows = np.frombuffer(self._hashes, np.uint64), np.frombuffer(self._rows, np.int64)
        order = np.lexsort((rows, hashes))
        hashes, rows = hashes[order], rows[order]
        _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        same = (hashes[1:] == hashes[:-1]) & (counts[inverse][1:] <= MAX_ITEMS_OF_NGRAM)
        pairs = np.unique(np.stack((rows[1:][same], rows[:-1][same]), axis=1), axis=0)
        self._pairs = [(int(row), int(earlier)) for row, earlier in pairs]
        self._candidates = {row for pair in self._pairs for row in pair}
        self._hashes, self._rows = bytearray(), bytearray()

    def is_candidate(self, row: int) -> bool:
        """Return whether an example may have a passage in common with another."""
        return row in self._candidates

    def add_candidate(self, row: int, text: str) -> None:
        """Keep what is needed to compare a text in full, if it is one of the candidates."""
        if self.is_candidate(row):
            self._ngrams[row] = _ngrams(text)

    def find(self) -> Iterator[Passage]:
        """Yield the longest passage that each example has in common with an earlier one."""
        longest: dict[int, Passage] = {}
        for row, earlier in self._pairs:
            places = np.flatnonzero(np.isin(self._ngrams[row], self._ngrams[earlier]))
            words = longest_run(set(places.tolist())) + NGRAM_WORDS - 1
            if words >= MIN_PASSAGE and (row not in longest or words > longest[row].words):
                longest[row] = Passage(row, earlier, words)
        yield from longest.values()


def _ngrams(text: str) -> NDArray[np.uint64]:
    return hash_ngrams(hash_words(split_words(text)), NGRAM_WORDS)
