"""The mean of a metric over seeds, with its deviation and interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gptexp.statistics.student_t import critical_value

LEVEL = 0.05  # 95 % intervals


@dataclass(frozen=True)
class Summary:
    """Values of a metric over seeds. None: not known from so few values."""

    mean: float | None
    sd: float | None  # standard deviation between seeds
    low: float | None  # bounds of the 95 % interval of the mean
    high: float | None
    n: int  # finite values

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval, for "mean +- half-width"."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def summarize(values: Sequence[float | None]) -> Summary:
    """Return the mean, standard deviation and t interval of the values that are finite numbers."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    n = len(finite)
    if n < 2:
        return Summary(finite[0] if finite else None, None, None, None, n)
    mean, sd = float(np.mean(finite)), float(np.std(finite, ddof=1))
    half_width = critical_value(n - 1, LEVEL) * sd / math.sqrt(n)
    return Summary(mean, sd, mean - half_width, mean + half_width, n)
