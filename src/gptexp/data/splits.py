"""Assign examples to splits so that no two splits share a text, a source or an image.

Rule `near` keeps together examples with the same group key and near-duplicate texts, `exact` only those with the same
group key, and `tail` cuts the corpus by position. With the first two, the hash of a group's first text chooses its
split, so that a text keeps its split when the corpus grows. A small corpus gets at least one group in each split.

Examples that a source marks as out of domain, such as whole packages, form the split `unseen` and are never trained on.
About 200 bytes of memory an example.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptexp.data.account import DataAccount
from gptexp.data.corpora.corpus import SPLITS
from gptexp.data.duplicates import (
    NUM_BANDS,
    ROWS_PER_BAND,
    connected_components,
    duplicate_pairs,
    minhash_signatures,
    near_duplicate_pairs,
    normalized_hash,
)
from gptexp.data.permutation import splitmix64
from gptexp.errors import UserError
from gptexp.wording import format_count

TRAIN, VAL, TEST = 0, 1, 2  # indices into SPLITS
UNASSIGNED = 255
EXAMPLES_PER_CHUNK = 256
MIN_EXPECTED_FOR_WARNING = 20  # examples that a split should have before a smaller one is reported


def assign_splits(
    examples: Iterable[tuple[str, str, str | None]],
    rule: str,
    fractions: dict[str, float],
    account: DataAccount | None = None,
) -> NDArray[np.uint8]:
    """Return the split of each example, as an index [N] into SPLITS.

    Args:
        examples: (text, group key, fixed split) triples. All examples with the same group key go to the same split. The
            fixed split is the one that the source states, or None.
        rule: near | exact | tail, as in `data.split`.
        fractions: fractions of "val" and "test". A split that the source states itself is not taken from the others.
        account: counts the groups of duplicates.

    Raises:
        UserError: there are fewer examples than splits, or fewer with different group keys.
    """
    table = _read(examples, rule)
    fractions = {
        name: fraction
        for name, fraction in fractions.items()
        if SPLITS.index(name) not in table.fixed_splits
    }
    # A source that states no test split gives one out of its train split.
    is_open = np.isin(table.fixed_splits, (UNASSIGNED, TRAIN))
    assigned = table.fixed_splits.copy()
    count = int(is_open.sum())
    if not count:
        return assigned
    left_out = account.left_out_text() if account else ""
    if rule == "tail":
        _refuse_too_few(count, count, fractions, "", left_out)
        assigned[is_open] = _split_by_position(table.lengths[is_open], fractions)
        return assigned
    equal = duplicate_pairs(table.group_hashes[is_open])
    edges = [equal, near_duplicate_pairs(table.signatures[is_open])] if rule == "near" else [equal]
    groups = connected_components(count, *edges)
    are_too_few = rule == "near" and _count_groups(groups) < len(_required_splits(fractions))
    if are_too_few:
        groups = connected_components(count, equal)
    num_groups = _count_groups(groups)
    shared = (account or DataAccount()).group_name
    _refuse_too_few(count, num_groups, fractions, f" with the same {shared}", left_out)
    if are_too_few:
        _warn_of_near_duplicates(count)
    assigned[is_open] = _split_by_group(groups, table.text_hashes[is_open], fractions)
    if account is not None:
        account.add_groups(groups, assigned[is_open], SPLITS)
    _warn_of_small_splits(assigned[is_open], fractions, rule, shared)
    return assigned


@dataclass
class _Table:
    """The columns of a corpus that its splits depend on, one row an example."""

    text_hashes: NDArray[np.uint64]  # [N]
    group_hashes: NDArray[np.uint64]  # [N]
    signatures: NDArray[np.uint32]  # [N, S]; no rows unless the rule is `near`
    lengths: NDArray[np.int64]  # [N] characters
    fixed_splits: NDArray[np.uint8]  # [N]


def _read(examples: Iterable[tuple[str, str, str | None]], rule: str) -> _Table:
    text_hashes, group_hashes, signatures = bytearray(), bytearray(), bytearray()
    lengths, fixed_splits = bytearray(), bytearray()
    texts: list[str] = []  # of which the signatures are not yet computed
    for text, group_key, fixed_split in examples:
        text_hash = normalized_hash(text)
        text_hashes += text_hash
        group_hashes += text_hash if group_key == text else normalized_hash(group_key)
        lengths += np.int64(len(text)).tobytes()
        fixed_splits.append(SPLITS.index(fixed_split) if fixed_split else UNASSIGNED)
        if rule == "near":
            texts.append(text)
        if len(texts) == EXAMPLES_PER_CHUNK:
            signatures += minhash_signatures(texts).tobytes()
            texts = []
    signatures += minhash_signatures(texts).tobytes()
    return _Table(
        np.frombuffer(text_hashes, np.uint64),
        np.frombuffer(group_hashes, np.uint64),
        np.frombuffer(signatures, np.uint32).reshape(-1, NUM_BANDS * ROWS_PER_BAND),
        np.frombuffer(lengths, np.int64),
        np.frombuffer(fixed_splits, np.uint8),
    )


def _split_by_group(
    groups: NDArray[np.int64], text_hashes: NDArray[np.uint64], fractions: dict[str, float]
) -> NDArray[np.uint8]:
    """Return the split [N] of each example, equal within a group.

    A group's position in [0, 1) is the hash of its first text: [0, test) is the test split, [test, test + val) the
    validation split, the rest is trained on. A split that comes out empty takes a group of another one.
    """
    labels, first_members, group_of, sizes = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    positions = splitmix64(text_hashes[first_members]) / 2.0**64
    # A long chain of boilerplate would fill a held-out split: it is trained on.
    largest = min(max(50, 0.02 * len(groups)), len(groups) / 2)
    positions[sizes > largest] = 1.0
    split_of_group = np.full(len(labels), TRAIN, np.uint8)
    start = 0.0
    for name in ("test", "val"):
        end = start + fractions.get(name, 0.0)
        split_of_group[(positions >= start) & (positions < end)] = SPLITS.index(name)
        start = end
    for split in _required_splits(fractions):
        if not (split_of_group == split).any():
            _move_one_group(split, split_of_group, positions, sizes)
    return split_of_group[group_of]


def _move_one_group(
    split: int,
    split_of_group: NDArray[np.uint8],
    positions: NDArray[np.float64],
    sizes: NDArray[np.int64],
) -> None:
    """Give an empty split the nearest group of one that has several: of the train split if that can spare one."""
    counts = np.bincount(split_of_group, minlength=len(SPLITS))
    donor = TRAIN if counts[TRAIN] > 1 else int(counts.argmax())
    members = np.flatnonzero(split_of_group == donor)
    in_order = members[np.lexsort((sizes[members], positions[members]))]
    split_of_group[in_order[0 if donor == TRAIN else -1]] = split


def split_by_hash(group_key: str, fractions: dict[str, float]) -> str:
    """Return the split of an example whose group key no other has, as rule `exact` does, without the other examples."""
    number = int.from_bytes(normalized_hash(group_key), "little")
    [position] = splitmix64(np.array([number], np.uint64)) / 2.0**64
    start = 0.0
    for name in ("test", "val"):
        if start <= position < start + fractions.get(name, 0.0):
            return name
        start += fractions.get(name, 0.0)
    return "train"


def _split_by_position(
    lengths: NDArray[np.int64], fractions: dict[str, float]
) -> NDArray[np.uint8]:
    """Return the split [N] of each example: the end of the corpus is the test split, before it the validation split."""
    total = max(1, lengths.sum())
    centers = np.cumsum(lengths) / total - lengths / total / 2
    test_start = 1.0 - fractions.get("test", 0.0)
    val_start = test_start - fractions.get("val", 0.0)
    held_out = np.where(centers >= test_start, TEST, VAL)
    counts = np.bincount(np.where(centers >= val_start, held_out, TRAIN), minlength=3)
    for split in _required_splits(fractions):
        if not counts[split]:  # of a small corpus, or one that ends in a long text
            counts[TRAIN if counts[TRAIN] > 1 else counts.argmax()] -= 1
            counts[split] = 1
    return np.repeat(np.array([TRAIN, VAL, TEST], np.uint8), counts)


def _required_splits(fractions: dict[str, float]) -> list[int]:
    """Return the splits that need an example: those with a fraction, and the train split."""
    return [*(SPLITS.index(name) for name in ("test", "val") if fractions.get(name)), TRAIN]


def _count_groups(groups: NDArray[np.int64]) -> int:
    """Return the number of groups, each of which is labelled with its first member."""
    return int((groups == np.arange(len(groups))).sum())


def _refuse_too_few(
    count: int, num_groups: int, fractions: dict[str, float], reason: str, left_out: str
) -> None:
    """Check that each split that is asked for can have an example.

    Args:
        reason: why there are fewer groups than examples.
        left_out: a sentence about other examples, which are not used.

    Raises:
        UserError: there are fewer groups than splits.
    """
    names = [SPLITS[split] for split in reversed(_required_splits(fractions))]
    if num_groups < len(names):
        groups = f" in {format_count(num_groups, 'group')}{reason}" if num_groups < count else ""
        raise UserError(
            f"{format_count(count, 'example')}{groups} cannot fill the splits {', '.join(names)}: add text, set "
            f"data.val_fraction=0 or data.test_fraction=0, or name held-out files with data.val_path=... and "
            f"data.test_path=...{left_out}"
        )


def _warn_of_near_duplicates(count: int) -> None:
    print(
        f"the {count} examples are near-duplicates of each other: they are divided as with data.split=exact, so that "
        f"the held-out examples resemble the training examples",
        file=sys.stderr,
    )


def _warn_of_small_splits(
    assigned: NDArray[np.uint8], fractions: dict[str, float], rule: str, shared: str
) -> None:
    reason, hint = f"most share their {shared}", ""
    if rule == "near":
        reason = "most are near-duplicates of each other"
        hint = f"; data.split=exact keeps together only those with the same {shared}"
    for name, fraction in fractions.items():
        count, expected = int((assigned == SPLITS.index(name)).sum()), fraction * len(assigned)
        if expected >= MIN_EXPECTED_FOR_WARNING and count < expected / 2:
            print(
                f"the {name} split has {count} examples instead of {expected:.0f}: {reason}{hint}",
                file=sys.stderr,
            )
