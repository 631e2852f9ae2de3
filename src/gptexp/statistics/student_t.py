"""Student's t distribution: tail probabilities, quantiles, and the difference that a test can see.

Formulas: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), chapter 26.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

POWER = 0.8  # probability with which a test sees a difference that is called detectable
FRACTION_TERMS = 20  # of 26.5.8, and four more for each unit of the square root of its parameters
MAX_DF = 10_000.0  # the normal distribution, to four digits
GRID_POINTS = 200  # of the integral over the estimated deviation


def two_sided_p(t: float, df: float) -> float:
    """Return the probability that |T| is at least |t|, where T has `df` degrees of freedom."""
    df = min(df, MAX_DF)
    return incomplete_beta(df / (df + t * t), df / 2, 0.5)


def f_tail(f: float, df1: float, df2: float) -> float:
    """Return the probability that a ratio of two estimates of one variance is at least `f`."""
    return incomplete_beta(df2 / (df2 + df1 * f), df2 / 2, df1 / 2)


@lru_cache(maxsize=4096)
def critical_value(df: float, level: float) -> float:
    """Return the t whose two-sided p is `level`."""
    return _solve(lambda t: level - two_sided_p(t, df), 1e-9)


@lru_cache(maxsize=4096)
def detectable_difference(df: float, level: float) -> float:
    """Return the true difference, in standard errors, that a two-sided test sees with a probability of POWER."""
    return _solve(lambda difference: power_of_test(difference, df, level) - POWER, 1e-4)


def power_of_test(difference: float, df: float, level: float) -> float:
    """Return the probability that a two-sided t test at `level` sees a true difference, given in standard errors.

    It is the probability for each ratio s of the estimated to the true standard error, averaged over s, where
    df * s**2 is a chi-square variable.
    """
    df = min(df, MAX_DF)
    width = 9 / math.sqrt(2 * df)
    low = max(0.0, 1 - width)
    ratios = low + (1 + width - low) * (np.arange(GRID_POINTS) + 0.5) / GRID_POINTS
    log_density = (df - 1) * np.log(ratios) - df * ratios**2 / 2
    density = np.exp(log_density - log_density.max())
    limit = critical_value(df, level)
    seen = [_normal(difference - limit * s) + _normal(-difference - limit * s) for s in ratios]
    return float(np.average(seen, weights=density))


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by the continued fraction 26.5.8."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the continued fraction converges slowly
        return 1 - incomplete_beta(1 - x, b, a)
    log_factor = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) - math.log(a)
    log_factor += a * math.log(x) + b * math.log1p(-x)
    fraction = 1.0
    for term in range(FRACTION_TERMS + round(4 * math.sqrt(a + b)), 0, -1):
        m = term // 2
        factor = m * (b - m) if term % 2 == 0 else -(a + m) * (a + b + m)
        fraction = 1 + factor * x / ((a + term - 1) * (a + term)) / fraction
    return math.exp(log_factor) / fraction


def _normal(x: float) -> float:
    """Return the standard normal distribution function."""
    return math.erfc(-x / math.sqrt(2)) / 2


def _solve(rising: Callable[[float], float], precision: float) -> float:
    """Return the root of a function that rises on the positive numbers."""
    low, high = 0.0, 1.0
    while rising(high) < 0 and high < 1e6:
        low, high = high, 2 * high
    while high - low > precision * high:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return high
