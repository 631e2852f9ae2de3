"""Train, validation and test by content: near-duplicates stay on one side.

Texts are sketched by MinHash over word trigrams and grouped by locality-sensitive hashing (Broder 1997; Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", ch. 3): with 8 bands of 2 rows, two texts that share 80 % of
their trigrams end in one group with probability 0.9997, two that share 20 % with 0.28. A group's side follows from a
hash of its first text. 72 bytes of memory an example.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gptexp.data.order import mixed

SPLITS = ("train", "val", "test")
BANDS, ROWS = 8, 2
WORDS = 4000  # of a longer text the beginning is enough
_KEYS = np.random.SeedSequence(0).generate_state(BANDS * ROWS, np.uint64)


def assign(
    texts: Iterable[str], rule: str, fractions: dict[str, float], given: list[str | None] | None = None
) -> NDArray[np.uint8]:
    """The split of each text, as an index [N] into SPLITS.

    Args:
        rule: near | exact | tail, as in the schema's Data.split.
        fractions: share of "val" and "test".
        given: filled while `texts` is read: the split that the source itself states, or None.
    """
    marks, bands, lengths = _read(texts, rule)
    said = np.array([SPLITS.index(s) if s else 255 for s in given] if given else [255] * len(marks), dtype=np.uint8)
    free = {name: share for name, share in fractions.items() if SPLITS.index(name) not in said}
    if rule == "tail":
        split = _tail(lengths, free)
    else:
        groups = _groups(bands) if rule == "near" else np.unique(marks, return_inverse=True)[1]
        split = _by_group(groups, marks, free)
    return np.where((said == 255) | ((said == 0) & (split != 0)), split, said)


def _read(texts: Iterable[str], rule: str) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    marks, lengths = bytearray(), bytearray()
    bands = bytearray()
    for text in texts:
        marks += hashlib.blake2b(" ".join(text.lower().split()).encode("utf8", "surrogatepass"), digest_size=8).digest()
        lengths += np.int64(len(text)).tobytes()
        if rule == "near":
            bands += sketch(text).tobytes()
    return (
        np.frombuffer(bytes(marks), np.uint64),
        np.frombuffer(bytes(bands), np.uint64).reshape(-1, BANDS),
        np.frombuffer(bytes(lengths), np.int64),
    )


def sketch(text: str) -> NDArray[np.uint64]:
    """[BANDS] hashes; texts that share a hash in any band count as near-duplicates."""
    words = re.findall(r"\w+", text.lower())[:WORDS] or [text]
    hashes = np.fromiter((zlib.crc32(word.encode("utf8", "surrogatepass")) for word in words), np.uint64, len(words))
    if len(words) >= 3:
        hashes = mixed(hashes[:-2]) + np.uint64(3) * mixed(hashes[1:-1]) + np.uint64(7) * mixed(hashes[2:])
    else:
        hashes = np.array([zlib.crc32(" ".join(words).encode("utf8", "surrogatepass"))], np.uint64)
    smallest = mixed(np.unique(hashes)[:, None] ^ _KEYS).min(axis=0).reshape(BANDS, ROWS)
    return mixed(smallest[:, 0] + np.uint64(11) * smallest[:, 1])


def _groups(bands: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Connected components [N] of "share a band", labelled by their smallest index."""
    labels = np.arange(len(bands))
    orders = [np.argsort(bands[:, band], kind="stable") for band in range(BANDS)]
    changed = len(bands) > 0
    while changed:
        before = labels.copy()
        for band, order in enumerate(orders):
            values = bands[order, band]
            starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
            smallest = np.minimum.reduceat(labels[order], starts)
            labels[order] = np.repeat(smallest, np.diff(np.r_[starts, len(order)]))
        changed = bool((labels != before).any())
    return labels


def _by_group(groups: NDArray, marks: NDArray[np.uint64], fractions: dict[str, float]) -> NDArray[np.uint8]:
    names, first, members, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    place = mixed(marks[first]) / 2.0**64  # in [0, 1), the same for the same text in any corpus
    place[sizes > max(50, 0.02 * len(groups))] = 1.0  # a chain of boilerplate would swallow a held-out split
    side = np.zeros(len(names), np.uint8)
    low = 0.0
    for name in ("test", "val"):
        share = fractions.get(name, 0.0)
        side[(place >= low) & (place < low + share)] = SPLITS.index(name)
        if share and not (side == SPLITS.index(name)).any() and (side == 0).sum() > 1:  # a small corpus: at least one
            rest = np.flatnonzero(side == 0)
            side[rest[np.argmin(place[rest])]] = SPLITS.index(name)
        low += share
    return side[members]


def _tail(lengths: NDArray[np.int64], fractions: dict[str, float]) -> NDArray[np.uint8]:
    end = np.cumsum(lengths) / max(1, lengths.sum())
    test_from = 1.0 - fractions.get("test", 0.0)
    val_from = test_from - fractions.get("val", 0.0)
    middle = end - lengths / max(1, lengths.sum()) / 2
    return np.where(middle >= test_from, 2, np.where(middle >= val_from, 1, 0)).astype(np.uint8)
