"""The noise between seeds, estimated from all runs of a sweep together.

Three seeds of two configs show their noise poorly. The model value = config + seed + noise shares one estimate of the
noise among all configs of a sweep (a two-way analysis of variance without interaction; Fisher 1925).

Shapes: C configs, S seeds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptexp.statistics.student_t import f_tail

NOISY_LEVEL = 0.01  # a config that is left out by luck makes the pool look calmer than it is
ROUNDING = 1e-12  # a deviation of this share of the values is none


@dataclass(frozen=True)
class Pooled:
    """The standard deviation of the noise of one run, and the degrees of freedom of its estimate."""

    deviation: float
    df: float


@dataclass(frozen=True)
class TwoWayFit:
    """The model value = config + seed + noise; without shared seeds, value = config + noise."""

    effects: (
        NDArray  # [C] of the configs, of which only the differences matter; NaN: it has no value
    )
    covariance: NDArray  # [C, C] of the effects, in units of the variance of the noise
    squares: float  # sum of the squared residuals
    df: int
    squares_of: NDArray  # [C] of each config
    df_of: NDArray  # [C]: each value has an equal part of the degrees of freedom

    @property
    def pooled(self) -> Pooled | None:
        return Pooled(float(np.sqrt(self.squares / self.df)), self.df) if self.df else None

    def deviation(self, one: int, other: int) -> float:
        """Return the noise of two configs: that of all configs, or their own where it is larger.

        Three seeds show a larger noise of single configs too rarely to leave it to `find_noisy`.
        """
        pair = [one, other]
        own = self.squares_of[pair].sum() / self.df_of[pair].sum()
        return float(np.sqrt(max(self.squares / self.df, own)))

    def factor(self, one: int, other: int) -> float:
        """Return the variance of the difference of two configs, in units of the variance of the noise."""
        c = self.covariance
        return float(c[one, one] + c[other, other] - 2 * c[one, other])


def fit_two_way(values: NDArray) -> TwoWayFit:
    """Fit the values [C, S] of a metric by least squares; NaN: a config has not run with a seed, or failed."""
    values = np.asarray(values, np.float64)
    config, seed = np.nonzero(np.isfinite(values))
    y = values[config, seed]
    configs, seeds = np.unique(config), np.unique(seed)
    of_config = (config[:, None] == configs).astype(np.float64)
    of_seed = (seed[:, None] == seeds[1:]).astype(np.float64)
    design = np.hstack([of_config, of_seed])
    if np.linalg.matrix_rank(design) < design.shape[1]:  # some configs share no seed with others
        design = of_config
    inverse = np.linalg.pinv(design.T @ design)
    coefficients = inverse @ design.T @ y
    effects = np.full(len(values), np.nan)
    effects[configs] = coefficients[: len(configs)]
    covariance = np.full((len(values), len(values)), np.nan)
    covariance[np.ix_(configs, configs)] = inverse[: len(configs), : len(configs)]
    residuals = y - design @ coefficients
    squares = residuals**2
    if squares.sum() <= ROUNDING**2 * float(y @ y):
        squares = np.zeros_like(squares)
    df, count = len(y) - design.shape[1], len(values)
    return TwoWayFit(
        effects,
        covariance,
        float(squares.sum()),
        df,
        np.bincount(config, squares, count),
        np.bincount(config, minlength=count) * (df / max(1, len(y))),
    )


def find_noisy(values: NDArray) -> list[int]:
    """Return the configs of values [C, S] that vary clearly more between seeds than the others.

    A config is noisy if it adds more to the residuals than its share, by an F test at 1 % over all configs. The
    noisiest one is taken out first.
    """
    values, noisy = np.array(values, np.float64), list[int]()
    while True:
        full = fit_two_way(values)
        configs = np.flatnonzero(np.isfinite(values).sum(axis=1) > 1)
        p_values = {}
        for config in configs.tolist():
            others = values.copy()
            others[config] = np.nan
            rest = fit_two_way(others)
            if not 0 < rest.df < full.df:
                continue
            added = (full.squares - rest.squares) / (full.df - rest.df)
            if rest.squares > 0:
                ratio = added / (rest.squares / rest.df)
                p_values[config] = f_tail(ratio, full.df - rest.df, rest.df) * len(configs)
            elif added > 0:
                p_values[config] = 0.0
        worst = min(p_values, key=p_values.__getitem__, default=None)
        if worst is None or p_values[worst] > NOISY_LEVEL:
            return sorted(noisy)
        noisy.append(worst)
        values[worst] = np.nan


def holm(p_values: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    """Return p values that are adjusted for being many (Holm 1979)."""
    adjusted, largest = {}, 0.0
    for rank, key in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[key] * (len(p_values) - rank)))
        adjusted[key] = largest
    return adjusted
