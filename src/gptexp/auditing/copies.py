"""Find equal and nearly equal examples, and say which of them to keep.

Two texts are equal if they differ in white space and capitals only. They are near-duplicates if the Dice similarity of
their sets of word bigrams reaches that of MIN_SIMILARITIES; short texts need the same numbers, too. Candidates come
from MinHash signatures and locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and Ullman, "Mining of Massive
Datasets", chapter 3), and each one is compared in full. data/duplicates.py, which a run uses to assign splits,
estimates instead.

Shapes: N texts, S = NUM_BANDS * ROWS_PER_BAND hashes of a signature.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gptexp.auditing.words import hash_bigrams, split_words
from gptexp.data.duplicates import bucket_keys, min_hashes, normalized_hash
from gptexp.data.progress import track_progress

NUM_BANDS = 40  # texts that share 54 % of all their bigrams (Dice 0.7) agree in a band with
ROWS_PER_BAND = 3  # probability 1 - (1 - 0.54**3)**40 = 0.999; 50 % (Dice 0.67): 0.995
MAX_NEIGHBOURS = 40  # of a text in its bucket that it is compared with
LIKELY_AGREEMENT = 0.45
MAX_CANDIDATES, MAX_LIKELY_CANDIDATES = 32, 128  # of a text, about
MIN_AGREEMENT = 0.32  # of signatures whose texts are compared: three standard errors below 0.45
SHORT_WORDS = 20  # a text with fewer words must have the same numbers
# (words of the longer text, similarity): the shorter a text, the more is one word of it. Dice 0.62 is Jaccard 0.45.
MIN_SIMILARITIES = ((SHORT_WORDS, 0.75), (50, 0.7), (None, 0.62))
_HASH_SEEDS = np.random.SeedSequence(1).generate_state(NUM_BANDS * ROWS_PER_BAND, np.uint64)


class Copy(NamedTuple):
    """An example that repeats one that is kept."""

    row: int
    kept: int  # the row that it repeats
    similarity: float  # 1: equal
    is_equal: bool


class TextTable:
    """Hashes and signatures of N texts, in the order of `add`; then near-duplicates among them.

    Call `add` for every text, `find_candidates`, `add_candidate` for every text again, and `near_duplicates`.
    """

    def __init__(self, finds_near: bool = True) -> None:
        self.finds_near = finds_near
        self._hashes, self._signatures = bytearray(), bytearray()
        self._pairs: NDArray[np.int64] = np.empty((0, 2), np.int64)  # of candidates
        self._candidates: dict[int, _Candidate] = {}
        self._rows: set[int] = set()

    def add(self, text: str) -> None:
        self._hashes += normalized_hash(text)
        if self.finds_near:
            self._signatures += min_hashes(hash_bigrams(split_words(text)), _HASH_SEEDS).tobytes()

    def classes(self) -> NDArray[np.int64]:
        """Return for each text the first row [N] of those that are equal to it."""
        hashes = np.frombuffer(self._hashes, np.uint64)
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        return first[inverse]

    def find_candidates(self) -> None:
        """Find pairs of rows whose texts may be near-duplicates; only the first of equal texts takes part."""
        if not self.finds_near:
            return
        signatures = np.frombuffer(self._signatures, np.uint32).reshape(-1, len(_HASH_SEEDS))
        classes = self.classes()
        rows = np.flatnonzero(classes == np.arange(len(classes)))
        self._pairs = rows[_similar_pairs(signatures[rows])]
        self._rows = set(self._pairs.ravel().tolist())
        self._signatures = bytearray()

    def add_candidate(self, row: int, text: str) -> None:
        """Keep what is needed to compare a text in full, if it is one of the candidates."""
        if row in self._rows:
            self._candidates[row] = _Candidate.of(split_words(text))

    def near_duplicates(self) -> dict[int, dict[int, float]]:
        """Return for each row that has near-duplicates their rows and similarities."""
        near: dict[int, dict[int, float]] = defaultdict(dict)
        pairs = track_progress(self._pairs.tolist(), "comparing", "pairs", len(self._pairs))
        for a, b in pairs:
            value = self._candidates[a].similarity(self._candidates[b])
            if value is not None:
                near[a][b] = near[b][a] = value
        return near


class _Candidate(NamedTuple):
    """A text as it is compared in full."""

    bigrams: NDArray[np.uint64]
    num_words: int
    numbers: frozenset[str]

    @classmethod
    def of(cls, words: list[str]) -> "_Candidate":
        numbers = frozenset(word for word in words if word.isdigit())
        return cls(hash_bigrams(words), len(words), numbers)

    def similarity(self, other: "_Candidate") -> float | None:
        """Return the Dice similarity of both sets of bigrams; None: the texts are not near-duplicates.

        A short text may have one other word in about eight, but no other number.
        """
        shared = len(np.intersect1d(self.bigrams, other.bigrams, assume_unique=True))
        value = 2 * shared / (len(self.bigrams) + len(other.bigrams))
        longer = max(self.num_words, other.num_words)
        least = next(least for words, least in MIN_SIMILARITIES if words is None or longer < words)
        has_same_numbers = longer >= SHORT_WORDS or self.numbers == other.numbers
        return value if value >= least and has_same_numbers else None


def find_copies(
    classes: NDArray[np.int64], near: dict[int, dict[int, float]], order: Iterable[int]
) -> list[Copy]:
    """Walk the rows in `order`, keep the first of each class, and return those that repeat one that is kept.

    A row is a copy only of a row that it is similar to itself: a chain of similar texts is not one group.
    """
    kept: dict[int, int] = {}  # class -> the row that is kept
    dropped: dict[int, Copy] = {}  # class -> the copy that its first row is
    copies = []
    for row in order:
        label = int(classes[row])
        if label in kept:
            copies.append(Copy(row, kept[label], 1.0, True))
        elif label in dropped:
            copies.append(dropped[label]._replace(row=row))
        else:
            similar = {
                kept[other]: value for other, value in near.get(label, {}).items() if other in kept
            }
            if similar:
                best = max(similar, key=lambda other: similar[other])
                dropped[label] = Copy(row, best, similar[best], False)
                copies.append(dropped[label])
            else:
                kept[label] = row
    return copies


def find_copies_across(
    classes: NDArray[np.int64], near: dict[int, dict[int, float]], ranks: NDArray[np.int64]
) -> list[Copy]:
    """Return the rows whose text is in a split with a lower rank, too; ranks: [N], the rank of each row's split."""
    first: dict[int, int] = {}  # class -> its row of the lowest rank
    for row in np.argsort(ranks, kind="stable").tolist():
        first.setdefault(int(classes[row]), row)
    copies = []
    for row, label in enumerate(classes.tolist()):
        similar = {first[label]: 1.0}
        similar |= {first[other]: value for other, value in near.get(label, {}).items()}
        similar = {other: value for other, value in similar.items() if ranks[other] < ranks[row]}
        if similar:
            best = max(similar, key=lambda other: similar[other])
            copies.append(Copy(row, best, similar[best], best == first[label]))
    return copies


def _similar_pairs(signatures: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return pairs [P, 2] of rows that fall into one bucket of a band and agree in enough hashes.

    Within a bucket, rows are sorted by the next band, so that a large one compares the most similar. Rows that have
    enough candidates are not paired again: thousands of texts of one template need no comparison of all.
    """
    size = max(1, len(signatures))
    keys = [bucket_keys(signatures, band, ROWS_PER_BAND) for band in range(NUM_BANDS)]
    pairs = np.empty(0, np.int64)  # low * size + high
    counts = np.zeros((2, size), np.int64)  # of candidates, and of likely ones among them
    for band in range(NUM_BANDS):
        order = np.lexsort((keys[(band + 1) % NUM_BANDS], keys[band]))
        ordered = keys[band][order]
        new, likely = [np.empty(0, np.int64)], [np.empty(0, bool)]
        for distance in range(1, MAX_NEIGHBOURS + 1):
            same = np.flatnonzero(ordered[distance:] == ordered[:-distance])
            if not len(same):
                break
            a, b = order[same], order[same + distance]
            is_open = np.minimum(counts[1, a], counts[1, b]) < MAX_LIKELY_CANDIDATES
            a, b = a[is_open], b[is_open]
            agreement = (signatures[a] == signatures[b]).mean(axis=1)
            is_free = np.minimum(counts[0, a], counts[0, b]) < MAX_CANDIDATES
            accepted = agreement >= np.where(is_free, MIN_AGREEMENT, LIKELY_AGREEMENT)
            new.append((np.minimum(a, b) * size + np.maximum(a, b))[accepted])
            likely.append(agreement[accepted] >= LIKELY_AGREEMENT)
        added, first = np.unique(np.concatenate(new), return_index=True)
        is_new = ~np.isin(added, pairs, assume_unique=True)
        added, is_likely = added[is_new], np.concatenate(likely)[first[is_new]]
        for number, rows in enumerate((added, added[is_likely])):
            counts[number] += np.bincount(np.concatenate(np.divmod(rows, size)), minlength=size)
        pairs = np.concatenate((pairs, added))
    return np.stack(np.divmod(np.sort(pairs), size), axis=1)
