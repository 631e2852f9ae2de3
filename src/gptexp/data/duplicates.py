"""Find equal and nearly equal texts.

Near-duplicates are found by MinHash over word trigrams and locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman
and Ullman, "Mining of Massive Datasets", chapter 3): a signature is cut into bands, texts that agree in one whole band
are candidates, and candidates that agree in at least JACCARD_THRESHOLD of all hashes are near-duplicates.

Shapes: N texts, S = NUM_BANDS * ROWS_PER_BAND hashes of a signature.
"""

import hashlib
import re
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gptexp.data.permutation import splitmix64

NUM_BANDS = 16  # two texts that share 80 % of their trigrams agree in a band with probability
ROWS_PER_BAND = 3  # 1 - (1 - 0.8**3)**16 = 0.99999
JACCARD_THRESHOLD = 0.6  # the share of equal MinHashes estimates the Jaccard similarity
MAX_WORDS = 4000  # words of a text that its signature covers
# Scripts without spaces are compared character by character.
WORD = re.compile(
    r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
# Translates the ASCII characters that WORD does not match to spaces.
_WORD_CHARACTERS = bytes(code if WORD.match(chr(code)) else ord(" ") for code in range(256))
WORDS_PER_CHUNK = 2000  # of which the hashes fit into a cache of the processor
_HASH_SEEDS = np.random.SeedSequence(0).generate_state(NUM_BANDS * ROWS_PER_BAND, np.uint64)

# Indices [P] of the first text and [P] of the second text of each pair.
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def normalized_hash(text: str) -> bytes:
    """Return eight bytes that are equal for texts that differ in white space and capitals only."""
    normalized = " ".join(text.lower().split())
    return hashlib.blake2b(normalized.encode("utf8", "surrogatepass"), digest_size=8).digest()


def minhash_signatures(texts: Iterable[str]) -> NDArray[np.uint32]:
    """Return the MinHashes [N, S] of the word trigrams of each text."""
    signatures = [np.empty((0, len(_HASH_SEEDS)), np.uint32)]
    chunk: list[NDArray[np.uint64]] = []
    num_words = 0
    for text in texts:
        chunk.append(_word_hashes(text))
        num_words += len(chunk[-1])
        if num_words >= WORDS_PER_CHUNK:
            signatures.append(_signatures(chunk))
            chunk, num_words = [], 0
    if chunk:
        signatures.append(_signatures(chunk))
    return np.concatenate(signatures)


def _word_hashes(text: str) -> NDArray[np.uint64]:
    """Return the hashes of a text's first words; a short text is filled up to three."""
    lower = text.lower()
    if lower.isascii():  # the words of WORD, in a fifth of the time
        words = lower.encode().translate(_WORD_CHARACTERS).split()[:MAX_WORDS]
        hashes = [*map(zlib.crc32, words)]
    else:
        hashes = [*map(crc32, WORD.findall(lower)[:MAX_WORDS])]
    hashes = hashes or [crc32(text)]
    return np.array([*hashes, *[0] * (3 - len(hashes))], np.uint64)


def _signatures(texts: list[NDArray[np.uint64]]) -> NDArray[np.uint32]:
    """Return the MinHashes [N, S] of texts of at least three words; texts: [words] hashes of the words of each."""
    words = splitmix64(np.concatenate(texts))
    trigrams = words[:-2] + np.uint64(3) * words[1:-1] + np.uint64(7) * words[2:]
    ends = np.cumsum([len(text) for text in texts])
    starts = ends - [len(text) for text in texts]
    # A text's trigrams end two words before it does: every other range is of those that reach into the next text.
    ranges = np.stack([starts, ends - 2], axis=1).ravel()[:-1]
    minima = np.minimum.reduceat(splitmix64(_HASH_SEEDS[:, None] ^ trigrams), ranges, axis=1)
    return (minima[:, ::2].T >> np.uint64(32)).astype(np.uint32)


def min_hashes(items: NDArray[np.uint64], seeds: NDArray) -> NDArray[np.uint32]:
    """Return the MinHashes [S] of a set of items by S hash functions, which `seeds` stand for."""
    minima = splitmix64(items[:, None] ^ seeds).min(axis=0)
    return (minima >> np.uint64(32)).astype(np.uint32)


def bucket_keys(signatures: NDArray[np.uint32], band: int, rows: int) -> NDArray[np.uint64]:
    """Return the keys [N] of the buckets that the texts fall into by a band of `rows` hashes."""
    keys = np.zeros(len(signatures), np.uint64)
    for row in range(band * rows, (band + 1) * rows):
        keys = splitmix64(keys + signatures[:, row].astype(np.uint64))
    return keys


def duplicate_pairs(hashes: NDArray[np.uint64]) -> Pairs:
    """Return pairs that connect all texts with the same hash; hashes: [N]."""
    order = np.argsort(hashes, kind="stable")
    same_as_previous = np.flatnonzero(hashes[order][1:] == hashes[order][:-1]) + 1
    return order[same_as_previous - 1], order[same_as_previous]


def near_duplicate_pairs(signatures: NDArray[np.uint32]) -> Pairs:
    """Return pairs of near-duplicates; signatures: [N, S].

    Within a bucket, each text is compared with the one before it and with the first, not with all.
    """
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for band in range(NUM_BANDS if len(signatures) else 0):
        keys = bucket_keys(signatures, band, ROWS_PER_BAND)
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys[order]
        is_first = np.r_[True, sorted_keys[1:] != sorted_keys[:-1]]
        first_of_bucket = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
        candidates = np.flatnonzero(~is_first)
        for others in (candidates - 1, first_of_bucket[candidates]):
            a, b = order[others], order[candidates]
            similarity = (signatures[a] == signatures[b]).mean(axis=1)
            left.append(a[similarity >= JACCARD_THRESHOLD])
            right.append(b[similarity >= JACCARD_THRESHOLD])
    return np.concatenate(left), np.concatenate(right)


def connected_components(count: int, *edges: Pairs) -> NDArray[np.int64]:
    """Label `count` nodes [count] with the smallest index of their connected component."""
    labels = np.arange(count)
    a, b = (np.concatenate(ends) for ends in zip(*edges, strict=True))
    while True:
        smallest = np.minimum(labels[a], labels[b])
        updated = labels.copy()
        np.minimum.at(updated, a, smallest)
        np.minimum.at(updated, b, smallest)
        updated = updated[updated]
        if (updated == labels).all():
            return labels
        labels = updated


def first_near_duplicates(texts: Iterable[str]) -> NDArray[np.int64]:
    """Return for each text the index [N] of the first text of its group of near-duplicates."""
    signatures = minhash_signatures(texts)
    return connected_components(len(signatures), near_duplicate_pairs(signatures))


def crc32(text: str) -> int:
    return zlib.crc32(text.encode("utf8", "surrogatepass"))
