"""Words of a text, and hashes of them and of their n-grams."""

import zlib

import numpy as np
from numpy.typing import NDArray

from gptexp.data.duplicates import WORD
from gptexp.data.permutation import splitmix64

_EDGE = np.uint64(0x9E3779B97F4A7C15)  # stands for the beginning and the end of a text


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case; scripts without spaces give one word a character."""
    return WORD.findall(text.lower())


def hash_words(words: list[str]) -> NDArray[np.uint64]:
    """Return a hash [T] of each word."""
    hashes = (zlib.crc32(word.encode("utf8", "surrogatepass")) for word in words)
    return splitmix64(np.fromiter(hashes, np.uint64, len(words)))


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
    return np.unique(hash_ngrams(np.r_[_EDGE, hash_words(words), _EDGE], 2))
