"""Train, validation and test by content: near-duplicates stay on one side.

What a source says is of a kind that must never be trained on, whole packages for instance, is the split `unseen`.

Texts are sketched by MinHash over word trigrams. Locality-sensitive hashing finds candidates, and those whose sketches
agree in at least 60 % are joined (Broder 1997; Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", ch. 3).
So are those that are about the same thing: pairs with one source, captions of one picture. A group's side follows from
a hash of its first text. About 200 bytes of memory an example.
"""

import hashlib
import re
import sys
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gptexp.data.permutation import splitmix64

SPLITS = ("train", "val", "test", "unseen")
BANDS, ROWS = (
    16,
    3,
)  # two texts that share 80 % of their trigrams meet in a band with probability 0.99999
JACCARD_THRESHOLD = (
    0.6  # share of the hashes of two sketches that agree: an estimate of the Jaccard similarity
)
WORDS = 4000  # of a longer text the beginning is enough
UNASSIGNED = 255
# Scripts without spaces count character by character.
WORD = re.compile(
    r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
_KEYS = np.random.SeedSequence(0).generate_state(BANDS * ROWS, np.uint64)


def assign(
    texts: Iterable[tuple[str, str]],
    rule: str,
    fractions: dict[str, float],
    given: list[str | None] | None = None,
) -> NDArray[np.uint8]:
    """The split of each text, as an index [N] into SPLITS.

    Args:
        texts: each with what it is about, which is never on two sides.
        rule: near | exact | tail, as in the schema's Data.split.
        fractions: share of "val" and "test".
        given: filled while `texts` is read: the split that the source itself states, or None.
    """
    marks, abouts, signatures, lengths = _read(texts, rule)
    said = np.array(
        [SPLITS.index(s) if s else UNASSIGNED for s in given or [None] * len(marks)], dtype=np.uint8
    )
    free = {name: share for name, share in fractions.items() if SPLITS.index(name) not in said}
    open_to = (said == UNASSIGNED) | (
        said == 0
    )  # a source that states no test split gives one out of its train split
    split = said.copy()
    if rule == "tail":
        split[open_to] = _tail(lengths[open_to], free)
    else:
        edges = [
            _duplicate_pairs(abouts[open_to]),
            *([_near_duplicate_pairs(signatures[open_to])] if rule == "near" else []),
        ]
        split[open_to] = _by_group(_groups(int(open_to.sum()), edges), marks[open_to], free)
        _warn(split[open_to], free, rule)
    return split


def near_duplicates(texts: Iterable[str]) -> NDArray[np.int64]:
    """For each text the number of the first that it is alike, directly or over others; its own for the first [N]."""
    signatures = np.array([minhash_signature(text) for text in texts], np.uint32).reshape(
        -1, BANDS * ROWS
    )
    return _groups(len(signatures), [_near_duplicate_pairs(signatures)])


def _read(
    texts: Iterable[tuple[str, str]], rule: str
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint32], NDArray[np.int64]]:
    marks, abouts, lengths, signatures = bytearray(), bytearray(), bytearray(), bytearray()
    for text, about in texts:
        marks += (own := mark(text))
        abouts += own if about == text else mark(about)
        lengths += np.int64(len(text)).tobytes()
        if rule == "near":
            signatures += minhash_signature(text).tobytes()
    return (
        np.frombuffer(marks, np.uint64),
        np.frombuffer(abouts, np.uint64),
        np.frombuffer(signatures, np.uint32).reshape(-1, BANDS * ROWS),
        np.frombuffer(lengths, np.int64),
    )


def mark(text: str) -> bytes:
    """Eight bytes that are the same for the same words, however they are spaced and capitalised."""
    return hashlib.blake2b(
        " ".join(text.lower().split()).encode("utf8", "surrogatepass"), digest_size=8
    ).digest()


def minhash_signature(text: str) -> NDArray[np.uint32]:
    """MinHashes [BANDS x ROWS]: the share in which two sketches agree estimates how alike the texts are."""
    words = WORD.findall(text.lower())[:WORDS] or [text]
    hashes = np.fromiter(
        (zlib.crc32(word.encode("utf8", "surrogatepass")) for word in words), np.uint64, len(words)
    )
    if len(words) >= 3:
        hashes = (
            splitmix64(hashes[:-2])
            + np.uint64(3) * splitmix64(hashes[1:-1])
            + np.uint64(7) * splitmix64(hashes[2:])
        )
    else:
        hashes = np.array([zlib.crc32(" ".join(words).encode("utf8", "surrogatepass"))], np.uint64)
    return (splitmix64(np.unique(hashes)[:, None] ^ _KEYS).min(axis=0) >> np.uint64(32)).astype(
        np.uint32
    )


Edges = tuple[NDArray[np.int64], NDArray[np.int64]]  # from which text to which


def _duplicate_pairs(marks: NDArray[np.uint64]) -> Edges:
    order = np.argsort(marks, kind="stable")
    meets = np.flatnonzero(marks[order][1:] == marks[order][:-1])
    return order[meets], order[meets + 1]


def _near_duplicate_pairs(signatures: NDArray[np.uint32]) -> Edges:
    """Those that meet in a band and are alike."""
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for band in range(BANDS if len(signatures) else 0):
        keys = np.zeros(len(signatures), np.uint64)
        for row in range(ROWS):
            keys = splitmix64(keys + signatures[:, band * ROWS + row].astype(np.uint64))
        order = np.argsort(keys, kind="stable")
        meets = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
        starts = np.maximum.accumulate(
            np.where(np.r_[True, keys[order][1:] != keys[order][:-1]], np.arange(len(order)), 0)
        )
        for other in (
            meets - 1,
            starts[meets],
        ):  # with the one before it, and with the first of the bucket
            a, b = order[other], order[meets]
            alike = (signatures[a] == signatures[b]).mean(axis=1) >= JACCARD_THRESHOLD
            left.append(a[alike])
            right.append(b[alike])
    return np.concatenate(left), np.concatenate(right)


def _groups(count: int, edges: list[Edges]) -> NDArray[np.int64]:
    """Connected components [count], labelled by their smallest index."""
    labels = np.arange(count)
    a, b = (np.concatenate(side) for side in zip(*edges, strict=True))
    while True:
        before = labels
        smallest = np.minimum(labels[a], labels[b])
        labels = labels.copy()
        np.minimum.at(labels, a, smallest)
        np.minimum.at(labels, b, smallest)
        labels = labels[labels]
        if (labels == before).all():
            return labels


def _by_group(
    groups: NDArray, marks: NDArray[np.uint64], fractions: dict[str, float]
) -> NDArray[np.uint8]:
    names, first, members, sizes = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    place = (
        splitmix64(marks[first]) / 2.0**64
    )  # in [0, 1), the same for the same text in any corpus
    place[sizes > max(50, 0.02 * len(groups))] = (
        1.0  # a chain of boilerplate would swallow a held-out split
    )
    side = np.zeros(len(names), np.uint8)
    low = 0.0
    for name in ("test", "val"):
        share = fractions.get(name, 0.0)
        side[(place >= low) & (place < low + share)] = SPLITS.index(name)
        if (
            share and not (side == SPLITS.index(name)).any() and (side == 0).sum() > 1
        ):  # a small corpus: at least one
            rest = np.flatnonzero(side == 0)
            side[rest[np.argmin(place[rest])]] = SPLITS.index(name)
        low += share
    return side[members]


def _warn(split: NDArray[np.uint8], fractions: dict[str, float], rule: str) -> None:
    for name, share in fractions.items():
        found, wanted = int((split == SPLITS.index(name)).sum()), share * len(split)
        if wanted >= 20 and found < wanted / 2:
            why = (
                "most are near-duplicates of each other"
                if rule == "near"
                else "most are about the same text or picture"
            )
            hint = (
                "; data.split=exact keeps together only what is about the same"
                if rule == "near"
                else ""
            )
            print(
                f"the {name} split has {found} examples instead of {wanted:.0f}: {why}{hint}",
                file=sys.stderr,
            )


def _tail(lengths: NDArray[np.int64], fractions: dict[str, float]) -> NDArray[np.uint8]:
    end = np.cumsum(lengths) / max(1, lengths.sum())
    test_from = 1.0 - fractions.get("test", 0.0)
    val_from = test_from - fractions.get("val", 0.0)
    middle = end - lengths / max(1, lengths.sum()) / 2
    return np.where(middle >= test_from, 2, np.where(middle >= val_from, 1, 0)).astype(np.uint8)
