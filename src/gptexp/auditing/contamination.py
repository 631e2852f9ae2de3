"""Find held-out texts, and items of a benchmark, that training examples contain.

Texts are compared by their n-grams of words, as in Brown et al. 2020 (arXiv 2005.14165, appendix C) and Chowdhery et
al. 2022 (arXiv 2204.02311, section 8). A training example contains an item if it has MIN_SHARE of the item's n-grams,
or MIN_RUN words of it in a row. N-grams that many items share, such as a licence, say nothing and do not count.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gptexp.auditing.words import hash_ngrams, hash_words, split_words

NGRAM_WORDS = 8
MIN_SHORT_WORDS = 5  # of an item of a benchmark that is compared as a whole
MIN_SHARE = 0.7
MIN_RUN = 24  # words
MAX_ITEMS_OF_NGRAM = 50


class Leak(NamedTuple):
    """An item that a training example contains."""

    item: int  # its number in the index
    share: float  # of its n-grams that the example has
    run: int  # longest number of words in a row that the example has


class NgramIndex:
    """The n-grams of all items, in memory: about 16 bytes a word."""

    def __init__(self) -> None:
        # Length of the n-grams -> their hashes, and the item and the place of each.
        self._parts: dict[int, list[tuple[NDArray[np.uint64], int]]] = defaultdict(list)
        self._sizes: dict[int, int] = {}  # item -> number of its n-grams
        self._tables: dict[int, _Table] | None = None

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, item: int, text: str, min_words: int = NGRAM_WORDS) -> None:
        """Add an item. A text of fewer than NGRAM_WORDS words is one n-gram, one of fewer than `min_words` none."""
        words = split_words(text)
        if len(words) < min_words:
            return
        n = min(NGRAM_WORDS, len(words))
        ngrams = hash_ngrams(hash_words(words), n)
        self._parts[n].append((ngrams, item))
        self._sizes[item] = len(ngrams)
        self._tables = None

    def find(self, text: str) -> list[Leak]:
        """Return the items that a training text contains."""
        if self._tables is None:
            self._tables = {n: _Table(parts) for n, parts in self._parts.items()}
        word_hashes = hash_words(split_words(text))
        leaks = []
        for n, table in self._tables.items():
            for item, places in table.look_up(hash_ngrams(word_hashes, n)).items():
                share = len(places) / self._sizes[item]
                run = longest_run(places) + n - 1
                if share >= MIN_SHARE or run >= MIN_RUN:
                    leaks.append(Leak(item, share, run))
        return leaks


class _Table:
    """Sorted n-grams of one length with their items and places."""

    def __init__(self, parts: list[tuple[NDArray[np.uint64], int]]) -> None:
        hashes = np.concatenate([ngrams for ngrams, _ in parts])
        items = np.repeat([item for _, item in parts], [len(ngrams) for ngrams, _ in parts])
        places = np.concatenate([np.arange(len(ngrams)) for ngrams, _ in parts])
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.items, self.places = hashes[order], items[order], places[order]

    def look_up(self, ngrams: NDArray[np.uint64]) -> dict[int, set[int]]:
        """Return the places in each item that have one of these n-grams."""
        start = np.searchsorted(self.hashes, ngrams, "left")
        end = np.searchsorted(self.hashes, ngrams, "right")
        places: dict[int, set[int]] = defaultdict(set)
        for index in np.flatnonzero((end > start) & (end - start <= MAX_ITEMS_OF_NGRAM)):
            for entry in range(start[index], end[index]):
                places[int(self.items[entry])].add(int(self.places[entry]))
        return places


def longest_run(places: set[int]) -> int:
    """Return the largest number of neighbouring places."""
    longest = 0
    for place in places:
        if place - 1 not in places:
            end = place
            while end in places:
                end += 1
            longest = max(longest, end - place)
    return longest
