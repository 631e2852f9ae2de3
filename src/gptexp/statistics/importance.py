"""The importance of a setting: the share of the variance of a metric between configs that its values explain.

This is the eta squared of a one-way analysis of variance (Fisher 1925). Groups explain a share by luck alone, more the
more groups there are: beside it stands the share that a setting without any effect is expected to explain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_FREEDOM = (
    3  # configs more than groups; with fewer, the groups explain nearly everything by luck
)
RANGES = 3  # that a number is cut into where a search proposes nearly as many values as there are configs


@dataclass(frozen=True)
class Importance:
    """The share of the variance that a setting explains.

    Attributes:
        share: between 0 and 1; None: it cannot be told, for the reason.
        by_luck: expected share of a setting without any effect.
        groups: number of values, or of ranges of values.
        in_ranges: the values are numbers, cut into ranges.
    """

    share: float | None
    by_luck: float | None
    groups: int
    in_ranges: bool
    reason: str = ""


def explained_share(
    values: Sequence[str] | Sequence[float], outcomes: Sequence[float]
) -> Importance:
    """Return the share of the variance of outcomes that the values of a setting explain.

    Args:
        values: of the setting, one a config. Numbers are cut into ranges where most of them are different.
        outcomes: finite means of the metric, one a config.

    Raises:
        ValueError: the numbers of values and outcomes differ.
    """
    if len(values) != len(outcomes):
        raise ValueError(f"{len(values)} values for {len(outcomes)} outcomes: each config has one")
    y = np.asarray(outcomes, np.float64)
    labels = np.unique(np.asarray(values), return_inverse=True)[1].reshape(-1)
    groups, in_ranges = len(set(labels.tolist())), False
    if (
        groups > RANGES
        and 2 * groups > len(y)
        and not any(isinstance(value, str) for value in values)
    ):
        labels, in_ranges = _cut_into_ranges(labels), True
        groups = len(set(labels.tolist()))
    if groups < 2:
        return Importance(None, None, groups, in_ranges, "has one value only")
    if len(y) - groups < MIN_FREEDOM:
        kind = "ranges" if in_ranges else "values"
        reason = (
            f"{len(y)} configs are too few for {groups} {kind}: it takes {groups + MIN_FREEDOM}"
        )
        return Importance(None, None, groups, in_ranges, reason)
    deviations = y - y.mean()
    total = float((deviations**2).sum())
    if total <= 1e-24 * float((y**2).sum()):
        return Importance(None, None, groups, in_ranges, "all configs have the same result")
    sums = np.bincount(labels, deviations)
    counts = np.maximum(np.bincount(labels), 1)
    share = float((sums**2 / counts).sum()) / total
    return Importance(min(share, 1.0), (groups - 1) / (len(y) - 1), groups, in_ranges)


def _cut_into_ranges(ranks: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the range of each rank; ranges have about equal numbers of configs, and equal values share one."""
    order = np.sort(ranks)
    first = np.searchsorted(order, ranks)  # number of configs with a lower value
    return first * RANGES // len(ranks)
