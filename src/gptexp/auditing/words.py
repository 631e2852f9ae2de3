"""Words of a text, and hashes of them and of their n-grams."""

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from gptexp.data.duplicates import WORD, crc32
from gptexp.data.permutation import splitmix64

_EDGE = np.array([0x9E3779B97F4A7C15], np.uint64)  # stands for both ends of a text
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")  # soft hyphens, zero-width spaces


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case and in one Unicode form (NFKC), without invisible characters.

    Scripts without spaces give one word a character.
    """
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return WORD.findall(text.lower())


def hash_words(words: list[str]) -> NDArray[np.uint64]:
    """Return a hash [T] of each word."""
    return splitmix64(np.fromiter(map(crc32, words), np.uint64, len(words)))


def hash_ngrams(word_hashes: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """Return a hash [T - n + 1] of the n words from each position on; nothing for a shorter text."""
    count = len(word_hashes) - n + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    ngrams = np.zeros(count, np.uint64)
    for offset in range(n):
        ngrams = splitmix64(ngrams + word_hashes[offset : offset + count])
    return ngrams


def hash_bigrams(words: list[str]) -> NDArray[np.uint64]:
    """Return the sorted distinct hashes of all pairs of neighbouring words, the two edges of the text included."""
    return np.unique(hash_ngrams(np.concatenate((_EDGE, hash_words(words), _EDGE)), 2))
