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
_HASH_SEEDS = np.random.SeedSequence(0).generate_state(NUM_BANDS * ROWS_PER_BAND, np.uint64)

# Indices [P] of the first text and [P] of the second text of each pair.
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def normalized_hash(text: str) -> bytes:
    """Return eight bytes that are equal for texts that differ in white space and capitals only."""
    normalized = " ".join(text.lower().split())
    return hashlib.blake2b(normalized.encode("utf8", "surrogatepass"), digest_size=8).digest()


def minhash_signature(text: str) -> NDArray[np.uint32]:
    """Return the MinHashes [S] of a text's word trigrams."""
    words = WORD.findall(text.lower())[:MAX_WORDS] or [text]
    if len(words) < 3:
        trigrams = np.array([crc32(" ".join(words))], np.uint64)
    else:
        hashes = np.fromiter(map(crc32, words), np.uint64, len(words))
        first, second, third = (
            splitmix64(part) for part in (hashes[:-2], hashes[1:-1], hashes[2:])
        )
        trigrams = first + np.uint64(3) * second + np.uint64(7) * third
    return min_hashes(np.unique(trigrams), _HASH_SEEDS)


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
    rows = [minhash_signature(text) for text in texts]
    signatures = np.array(rows, np.uint32).reshape(-1, NUM_BANDS * ROWS_PER_BAND)
    return connected_components(len(signatures), near_duplicate_pairs(signatures))


def crc32(text: str) -> int:
    return zlib.crc32(text.encode("utf8", "surrogatepass"))
