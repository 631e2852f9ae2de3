"""Verdicts about all configs of a sweep, against the best one or against one that was named before.

Shapes: C configs, S seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gptexp.statistics.pooled import ROUNDING, Pooled, TwoWayFit, find_noisy, fit_two_way, holm
from gptexp.statistics.summary import LEVEL
from gptexp.statistics.verdict import (
    ALL_EQUAL,
    NO_NOISE,
    Estimate,
    Evidence,
    Verdict,
    estimate_from_seeds,
    judge,
    object_to_failures,
)


@dataclass(frozen=True)
class ConfigVerdicts:
    reference: (
        int | None
    )  # the config that the others are compared with; None: no config has a value
    verdicts: dict[int, Verdict]  # of each other config against it
    pooled: Pooled | None  # the noise of one run; None: no config has two seeds
    noisy: list[int]  # configs that vary clearly more between seeds, which are not pooled


def compare_configs(
    values: ArrayLike,
    *,
    higher_is_better: bool,
    reference: int | None = None,
    margin: float = 0.0,
    looks: int = 1,
    failed: Sequence[int] = (),
    level: float = LEVEL,
) -> ConfigVerdicts:
    """Compare the configs of a sweep by the values [C, S] of a metric; NaN: no value.

    A best config that the values themselves have chosen can differ from any other by luck: the p values are adjusted by
    Holm's method for all C * (C - 1) / 2 comparisons. Those with a reference that was named before are C - 1.

    Args:
        reference: the config that the others are compared with; None: the best by its mean, as if
            all had the same seeds, of those with the fewest failed seeds; the first one of equals.
        looks: how often verdicts decide which configs get another seed: one less than the most seeds that a config can
            get. Each look could be wrong, and has a share of the level.
        failed: number of failed seeds of each config; (): none has failed.
        level: probability that any of the words better and worse is wrong if there is no difference.
    """
    table = np.asarray(values, np.float64)
    present = [int(i) for i in np.flatnonzero(np.isfinite(table).any(axis=1))]
    if not present:
        return ConfigVerdicts(None, {}, None, [])
    noisy = find_noisy(table)
    fit = fit_two_way(np.where(np.isin(np.arange(len(table)), noisy)[:, None], np.nan, table))
    effects = fit_two_way(table).effects[present]
    failures = list(failed) or [0] * len(table)
    fewest = min(failures[config] for config in present)
    worst = -math.inf if higher_is_better else math.inf
    effects = np.where([failures[config] == fewest for config in present], effects, worst)
    scores = effects if higher_is_better else -effects
    is_best = scores >= scores.max() - ROUNDING * np.abs(scores.max())
    best = present[int(np.argmax(is_best))]
    pairs = list(combinations(present, 2))
    if reference is not None:
        best = reference
        pairs = [pair for pair in pairs if best in pair]
    estimates = {pair: _estimate(table, fit, noisy, *pair) for pair in pairs}
    adjusted = holm({pair: e.p for pair, e in estimates.items() if e is not None and e.is_known})
    counts = np.isfinite(table).sum(axis=1).tolist()
    verdicts = {}
    for pair, estimate in estimates.items():
        if best not in pair:
            continue
        config = pair[0] if pair[1] == best else pair[1]
        if estimate is not None and config == pair[0]:
            estimate = replace(estimate, difference=-estimate.difference)
        evidence = Evidence(
            n_seeds=min(counts[config], counts[best]),
            comparisons=len(pairs) * looks,
            objection=_objection(estimate, adjusted.get(pair, 1.0), len(pairs), looks, level)
            or object_to_failures(
                estimate.difference if estimate else 0.0,
                (failures[best], failures[config]),
                higher_is_better,
            ),
        )
        verdicts[config] = judge(estimate, evidence, higher_is_better, margin, level)
    return ConfigVerdicts(best, verdicts, fit.pooled, noisy)


def _estimate(
    table: NDArray, fit: TwoWayFit, noisy: list[int], one: int, other: int
) -> Estimate | None:
    """Return the difference other - one: by the noise of the pool, or of these two alone where one of them is noisy."""
    if fit.pooled is not None and one not in noisy and other not in noisy:
        difference = float(fit.effects[other] - fit.effects[one])
        error = fit.deviation(one, other) * math.sqrt(fit.factor(one, other))
        return Estimate(difference, error, fit.pooled.df)
    values = table[[one, other]]
    shared = np.isfinite(values).all(axis=0)
    is_paired = bool(shared.sum() > 1)
    if is_paired:
        values = values[:, shared]
    a, b = (row[np.isfinite(row)] for row in values)
    return estimate_from_seeds(a, b, is_paired)[0]


def _objection(
    estimate: Estimate | None, adjusted_p: float, count: int, looks: int, level: float
) -> str:
    """Return why an estimate may not be called better or worse; "": nothing speaks against it."""
    if estimate is None or math.isnan(estimate.error):
        return NO_NOISE
    if not estimate.error:
        return ALL_EQUAL
    if estimate.p <= level < adjusted_p * looks:
        rounds = "" if looks == 1 else f", made up to {looks} times"
        return f"clear by itself, but one of {count} comparisons{rounds}"
    return ""
