"""Say whether one side is better than another, by more than noise.

A verdict speaks of b against a: `better` means that b is better, and the difference is b - a in the metric's own
direction. docs/statistics.md explains the methods and shows how often they are wrong.

Shapes: S seeds, N examples.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gptexp.statistics.pooled import ROUNDING, Pooled
from gptexp.statistics.sign_flips import sign_flip_p
from gptexp.statistics.student_t import critical_value, detectable_difference, two_sided_p
from gptexp.statistics.summary import LEVEL

Word = Literal["better", "worse", "no difference that matters", "cannot tell"]
Scope = Literal["configs", "models"]
Unit = Literal["example", "batch"]
PLURALS = {"example": "examples", "batch": "batches"}

MAX_MORE_SEEDS = 100
FEW_FOR_FLIPS = 6  # seeds; with fewer, no choice of signs has a p below 0.05
NO_NOISE = "one seed does not show the noise between seeds"
NO_VALUES = "no seed has a value on both sides"
ALL_EQUAL = "all differences are equal: the noise is unknown"


@dataclass(frozen=True)
class Verdict:
    """One side against another. None: not known."""

    word: Word
    difference: float | None  # b - a, in the metric's own direction
    low: float | None  # bounds of the interval of the difference
    high: float | None
    n_seeds: int  # of either side, the smaller number
    n_examples: int  # 0: only the metrics of runs were compared
    detectable: float | None  # smallest true difference that is seen with a probability of 80 %
    more_seeds: int | None  # about how many more would see the difference; None: not by up to 100
    scope: Scope  # whether it speaks of two configs, or of two trained models alone
    sentence: str
    p: float | None = None  # probability of such a difference between equal sides


@dataclass(frozen=True)
class Estimate:
    """A difference b - a with its standard error, which has `df` degrees of freedom; NaN: the error is not known."""

    difference: float
    error: float
    df: float
    fixed_error: float = 0.0  # a second one, which more seeds do not make smaller
    fixed_df: float = 1.0

    @property
    def is_known(self) -> bool:
        return not math.isnan(self.error) and self.error + self.fixed_error > 0

    @property
    def p(self) -> float:
        if not self.is_known:
            return float(not self.difference)
        if not self.fixed_error:
            return two_sided_p(self.difference / self.error, self.df)
        low, high = -12.0, 0.0  # powers of ten
        for _ in range(12):
            middle = (low + high) / 2
            is_outside = abs(self.difference) > self.half_width(10**middle)
            low, high = (low, middle) if is_outside else (middle, high)
        return float(10**high)

    def half_width(self, level: float) -> float:
        """Return half the width of the interval, of which each error has a part by its own degrees of freedom."""
        parts = ((self.error, self.df), (self.fixed_error, self.fixed_df))
        return math.hypot(*(critical_value(df, level) * error for error, df in parts if error))

    def detectable(self, level: float, n_seeds: int = 1, more_seeds: int = 0) -> float:
        """Return the smallest true difference that is seen with a probability of 80 %, now or with more seeds."""
        growth = (n_seeds + more_seeds - 1) / (n_seeds - 1) if n_seeds > 1 else 1.0
        error = self.error * math.sqrt(n_seeds / (n_seeds + more_seeds))
        parts = ((error, self.df * growth), (self.fixed_error, self.fixed_df))
        return math.hypot(
            *(detectable_difference(round(df, 1), level) * error for error, df in parts if error)
        )


@dataclass(frozen=True)
class Evidence:
    """The runs and examples behind an estimate."""

    n_seeds: int
    n_examples: int = 0
    n_groups: int = 0
    unit: Unit = "example"
    scope: Scope = "configs"
    comparisons: int = 1  # that are made together
    objection: str = ""  # why no side may be called better; "": nothing speaks against it
    remark: str = ""


def compare_seeds(
    a: Sequence[float],
    b: Sequence[float],
    *,
    higher_is_better: bool,
    paired: bool,
    margin: float = 0.0,
    pooled: Pooled | None = None,
    level: float = LEVEL,
) -> Verdict:
    """Compare two configs by a metric of their runs over seeds.

    Args:
        a, b: the values of the runs; NaN for a run that failed.
        paired: the values at one index have the same seed.
        margin: smallest difference of interest.
        pooled: the noise between seeds, from more runs than these.
        level: probability of a wrong word if there is no difference.

    Raises:
        ValueError: paired values of unequal number.
    """
    one, other = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if paired and len(one) != len(other):
        raise ValueError(f"paired seeds: {len(one)} values and {len(other)}")
    failed = int((~np.isfinite(one)).sum()), int((~np.isfinite(other)).sum())
    if paired:
        both = np.isfinite(one) & np.isfinite(other)
        one, other = one[both], other[both]
    one, other = one[np.isfinite(one)], other[np.isfinite(other)]
    n_seeds = min(len(one), len(other))
    estimate, objection = estimate_from_seeds(one, other, paired, pooled)
    remarks = [_count_failed(failed)]
    if paired and n_seeds > 2 and one.std() and other.std():
        remarks.append(f"correlation over seeds {np.corrcoef(one, other)[0, 1]:.2f}")
    if estimate and not objection:
        objection = object_to_failures(estimate.difference, failed, higher_is_better)
    remark = "; ".join(filter(None, remarks))
    evidence = Evidence(n_seeds, objection=objection, remark=remark)
    return judge(estimate, evidence, higher_is_better, margin, level)


def object_to_failures(difference: float, failed: tuple[int, int], higher_is_better: bool) -> str:
    """Return why failed seeds forbid to call a side better; "": they do not.

    Args:
        difference: b - a.
        failed: number of failed seeds of a, and of b.
    """
    is_b_better = (difference > 0) == higher_is_better
    more, fewer = (failed[1], failed[0]) if is_b_better else (failed[0], failed[1])
    return "the side with the better values has more failed seeds" if more > fewer else ""


def _count_failed(failed: tuple[int, int]) -> str:
    return f"seeds that failed: {failed[0]} and {failed[1]}" if any(failed) else ""


def estimate_from_seeds(
    a: NDArray, b: NDArray, paired: bool, pooled: Pooled | None = None
) -> tuple[Estimate | None, str]:
    """Return the estimate, and why it may not decide."""
    n = min(len(a), len(b))
    if n == 0:
        return None, NO_VALUES
    difference = float(b.mean() - a.mean())
    if pooled is not None:
        count = 2 / n if paired else 1 / len(a) + 1 / len(b)
        return Estimate(difference, pooled.deviation * math.sqrt(count), pooled.df), ""
    if n == 1:
        return Estimate(difference, math.nan, 0), NO_NOISE
    if paired:
        differences = b - a
        error, df = float(differences.std(ddof=1)) / math.sqrt(n), n - 1.0
        flips = sign_flip_p(differences) if n >= FEW_FOR_FLIPS else None
    else:  # Welch 1947
        parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
        error, flips = float(np.sqrt(parts.sum())), None
        divisors = np.array([len(a) - 1, len(b) - 1])
        df = float(parts.sum() ** 2 / max((parts**2 / divisors).sum(), 1e-300))
    if error <= ROUNDING * float(np.abs([*a, *b]).max()):
        error = 0.0
        if flips is None:
            return Estimate(difference, 0.0, df), ALL_EQUAL
    objection = ""
    if flips is not None and flips > LEVEL:
        objection = f"the signs of the differences alone do not show it (p = {flips:.2g})"
    return Estimate(difference, error, df), objection


def compare_examples(
    a: ArrayLike,
    b: ArrayLike,
    groups: Sequence[Hashable],
    *,
    higher_is_better: bool,
    margin: float = 0.0,
    unit: Unit = "example",
    level: float = LEVEL,
    failed: tuple[int, int] = (0, 0),
) -> Verdict:
    """Compare two trained models by the scores [N] of the same examples.

    It says nothing about other seeds of their configs. Standard errors are clustered by group (Liang and Zeger 1986;
    Miller 2024, arXiv 2411.00640).

    Args:
        a, b: scores; NaN where one is not defined.
        groups: equal for examples that are not independent: near-duplicates, questions about one picture.
        failed: number of failed seeds of either side.
    """
    differences = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    defined = np.isfinite(differences)
    differences, labels = differences[defined], _number_groups(groups, defined)
    n_groups = len(set(labels.tolist()))
    evidence = Evidence(1, len(differences), n_groups, unit, "models", remark=_count_failed(failed))
    if not len(differences):
        return judge(None, evidence, higher_is_better, margin, level)
    difference = float(differences.mean())
    if n_groups < 2:
        estimate, objection = Estimate(difference, math.nan, 0), "all examples are of one group"
    else:
        error = _cluster_error(differences - difference, labels) / len(differences)
        estimate = Estimate(difference, error, _cluster_df(labels))
        objection = _object_to_signs(np.bincount(labels, differences), level)
        if not differences.any():
            objection = "every score is the same on both sides"
        objection = objection or object_to_failures(difference, failed, higher_is_better)
    evidence = replace(evidence, objection=objection)
    return judge(estimate, evidence, higher_is_better, margin, level)


def compare_runs(
    a: ArrayLike,
    b: ArrayLike,
    groups: Sequence[Hashable],
    *,
    higher_is_better: bool,
    paired: bool,
    margin: float = 0.0,
    unit: Unit = "example",
    level: float = LEVEL,
) -> Verdict:
    """Compare two configs by the scores [S, N] of the same examples over several seeds each.

    The interval covers both other seeds and other examples. The variance of the difference is that between seeds, and
    that between groups of examples less the part that both of them hold (Cameron, Gelbach and Miller 2011). One seed on
    either side is compared as `compare_examples` does.

    Args:
        a, b: a row of NaN for a run that failed.
        paired: the rows at one index have the same seed.
    """
    one, other = np.atleast_2d(np.asarray(a, np.float64)), np.atleast_2d(np.asarray(b, np.float64))
    has_values = [np.isfinite(rows).any(axis=1) for rows in (one, other)]
    failed = int((~has_values[0]).sum()), int((~has_values[1]).sum())
    if paired:
        has_values = [has_values[0] & has_values[1]] * 2
    one, other = one[has_values[0]], other[has_values[1]]
    n_seeds = min(len(one), len(other))
    if n_seeds == 0:
        evidence = Evidence(0, objection=NO_VALUES, remark=_count_failed(failed))
        return judge(None, evidence, higher_is_better, margin, level)
    if n_seeds == 1:
        return compare_examples(
            one[0],
            other[0],
            groups,
            higher_is_better=higher_is_better,
            margin=margin,
            unit=unit,
            level=level,
            failed=failed,
        )
    defined = np.asarray(np.isfinite(np.vstack([one, other])).all(axis=0))
    one, other, labels = one[:, defined], other[:, defined], _number_groups(groups, defined)
    n_examples, n_groups = int(defined.sum()), len(set(labels.tolist()))
    evidence = Evidence(n_seeds, n_examples, n_groups, unit, remark=_count_failed(failed))
    if n_groups < 2:
        return judge(None, evidence, higher_is_better, margin, level)
    samples = [other - one] if paired else [-one, other]
    columns = np.sum([sample.mean(axis=0) for sample in samples], axis=0)
    difference = float(columns.mean())
    between_groups = (_cluster_error(columns - difference, labels) / n_examples) ** 2
    between_seeds = shared = 0.0
    for sample in samples:
        rows = sample.mean(axis=1)
        between_seeds += float(rows.var(ddof=1)) / len(sample)
        rest = sample - rows[:, None] - sample.mean(axis=0) + sample.mean()
        cells = sum(_cluster_error(row, labels) ** 2 for row in rest)
        shared += cells / (len(sample) * (len(sample) - 1) * n_examples**2)
    seed_df = len(one) - 1 if paired else len(one) + len(other) - 2
    estimate = Estimate(
        difference,
        math.sqrt(between_seeds),
        seed_df,
        math.sqrt(max(between_groups - shared, 0.0)),
        _cluster_df(labels),
    )
    objection = ALL_EQUAL
    if estimate.is_known:
        objection = _object_to_signs(np.bincount(labels, columns), level)
        objection = objection or object_to_failures(difference, failed, higher_is_better)
    evidence = replace(evidence, objection=objection)
    return judge(estimate, evidence, higher_is_better, margin, level)


def _object_to_signs(sums: NDArray, level: float) -> str:
    """Return why the signs of the differences of groups do not show a difference; "": they do."""
    flips = sign_flip_p(sums, level)
    if flips is None or flips <= level:
        return ""
    return f"the signs of the differences alone do not show it (p = {flips:.2g})"


def _number_groups(groups: Sequence[Hashable], defined: NDArray) -> NDArray[np.int64]:
    """Return a number for the group of each example that is defined."""
    numbers: dict[Hashable, int] = {}
    kept = (group for group, keep in zip(groups, defined.tolist(), strict=True) if keep)
    return np.array([numbers.setdefault(group, len(numbers)) for group in kept], np.int64)


def _cluster_error(residuals: NDArray, labels: NDArray[np.int64]) -> float:
    """Return the standard error of a sum of residuals that are independent between groups only."""
    sums = np.bincount(labels, residuals)
    count = len(sums)
    return float(np.sqrt((sums**2).sum() * count / (count - 1)))


def _cluster_df(labels: NDArray[np.int64]) -> float:
    """Return the degrees of freedom of `_cluster_error`: the fewer, the more the groups differ in size."""
    sizes = np.bincount(labels).astype(np.float64) ** 2
    return max(1.0, float(sizes.sum() ** 2 / (sizes**2).sum()) - 1)


def judge(
    estimate: Estimate | None,
    evidence: Evidence,
    higher_is_better: bool,
    margin: float = 0.0,
    level: float = LEVEL,
) -> Verdict:
    """Put an estimate into words."""
    if estimate is None or math.isnan(estimate.error):
        difference = estimate.difference if estimate else None
        reason = evidence.objection or "there is nothing that both sides have"
        return Verdict(
            "cannot tell",
            difference,
            None,
            None,
            evidence.n_seeds,
            evidence.n_examples,
            None,
            None,
            evidence.scope,
            _describe("cannot tell", difference, evidence, [reason, evidence.remark]),
        )
    half_width = estimate.half_width(level)
    low, high = estimate.difference - half_width, estimate.difference + half_width
    shared_level = level / evidence.comparisons
    detectable = estimate.detectable(shared_level) if estimate.is_known else None
    word: Word = "cannot tell"
    if margin > 0 and estimate.is_known and -margin < low and high < margin:
        word = "no difference that matters"
    elif (low > 0 or high < 0) and not evidence.objection:
        word = "better" if (low > 0) == higher_is_better else "worse"
    more_seeds = None
    if word == "cannot tell" and evidence.scope == "configs":
        more_seeds = _more_seeds(estimate, evidence.n_seeds, margin, shared_level)
    notes = [evidence.objection if word == "cannot tell" else "", evidence.remark]
    if detectable is not None:
        notes.append(f"could have seen {detectable:.3g} or more")
    if more_seeds is not None:
        notes.append(f"about {more_seeds} more {'seed' if more_seeds == 1 else 'seeds'} would tell")
    elif word == "cannot tell" and evidence.scope == "configs" and estimate.is_known:
        notes.append(f"{MAX_MORE_SEEDS} more seeds would not")
    interval = f"{100 * (1 - level):g} % interval {low:.3g} to {high:.3g}"
    return Verdict(
        word,
        estimate.difference,
        low,
        high,
        evidence.n_seeds,
        evidence.n_examples,
        detectable,
        more_seeds,
        evidence.scope,
        _describe(word, estimate.difference, evidence, notes, interval),
        estimate.p,
    )


def _more_seeds(estimate: Estimate, n: int, margin: float, level: float) -> int | None:
    """Return about how many more seeds would see a true difference as large as this one, or as the margin."""
    target = max(abs(estimate.difference), margin)

    def is_seen(count: int) -> bool:
        return estimate.detectable(level, n, count) <= target

    if not estimate.is_known or not is_seen(MAX_MORE_SEEDS):
        return None
    low, high = 0, MAX_MORE_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_seen(middle) else (middle, high)
    return high


def _describe(
    word: Word, difference: float | None, evidence: Evidence, notes: list[str], interval: str = ""
) -> str:
    seeds = "1 seed" if evidence.n_seeds == 1 else f"{evidence.n_seeds} seeds"
    basis = [interval, seeds if evidence.scope == "configs" else ""]
    if evidence.n_examples:
        unit = evidence.unit if evidence.n_examples == 1 else PLURALS[evidence.unit]
        count = f"{evidence.n_examples:,} {unit}"
        if evidence.n_groups < evidence.n_examples:
            count += f" in {evidence.n_groups:,} groups"
        basis.append(count)
    size = "" if difference is None else f": {difference:+.3g}"
    sentence = f"{word}{size} ({', '.join(filter(None, basis))})"
    if evidence.scope == "models":
        notes = [*notes, "this speaks of these two models, not of their configs"]
    return "; ".join([sentence, *filter(None, notes)])
