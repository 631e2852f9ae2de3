"""Lengths and languages of the fields of each split."""

from array import array
from collections import Counter, defaultdict

import numpy as np

PERCENTILES = {"least": 0, "5 %": 5, "median": 50, "95 %": 95, "most": 100}


class Profile:
    """The number of words, and the language, of each text, by split and field."""

    def __init__(self) -> None:
        self._words: dict[tuple[str, str], array] = defaultdict(lambda: array("I"))
        self.languages: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def add(self, split: str, field: str, num_words: int, language: str) -> None:
        self._words[split, field].append(num_words)
        self.languages[split, field][language] += 1

    def lengths(self) -> dict[tuple[str, str], dict[str, float]]:
        """Return the mean and percentiles of the number of words, by split and field."""
        return {
            key: {
                name: float(np.percentile(np.asarray(words), percentile))
                for name, percentile in PERCENTILES.items()
            }
            | {"mean": float(np.mean(np.asarray(words)))}
            for key, words in self._words.items()
        }

    def histogram(self, field: str) -> list[tuple[str, int]]:
        """Return how many texts of a field have 0, 1, 2 to 3, 4 to 7, ... words, over all splits."""
        parts = [np.asarray(words) for (_, name), words in self._words.items() if name == field]
        sizes = np.concatenate(parts)
        bins = np.bincount(np.where(sizes > 0, np.frexp(sizes)[1], 0))
        ranges = ["0", "1", *(f"{2**power} to {2 ** (power + 1) - 1}" for power in range(1, 33))]
        return [
            (ranges[index], int(count))
            for index, count in enumerate(bins)
            if index >= np.flatnonzero(bins)[0]
        ]
