"""Scaling laws: fit losses of small models by a power law, and predict that of a larger one with an interval.

Along one line of compute, where model and data grow together, only L(x) = floor + scale * x ** -exponent can be
identified (Hoffmann et al. 2022, arXiv 2203.15556, fit model and data apart). Given the exponent, floor and scale
follow by non-negative least squares in closed form (variable projection), so a dense grid over the exponents finds the
best fit, and no optimizer can stop early (Besiroglu et al. 2024, arXiv 2404.10102, found such a stop in a published
fit). Errors are relative ones: a loss that is off by 1 % counts alike on every rung.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXPONENTS = np.geomspace(0.005, 2.0, 100)
ZOOMS = (
    2.0,
    0.2,
    0.02,
)  # half widths of finer grids around the best exponent, in steps of the first grid
DRAWS = 2000
COVERAGE = 0.95
PARAMETERS = 3  # that the fit takes from the runs: floor, scale, exponent


@dataclass(frozen=True)
class PowerLaw:
    """L(x) = floor + scale * (x / unit) ** -exponent, where `unit` is the geometric mean of the fitted x."""

    floor: float
    scale: float
    exponent: float
    unit: float

    def loss(self, x: float) -> float:
        """Return the loss at x."""
        return self.floor + self.scale * (x / self.unit) ** -self.exponent


@dataclass(frozen=True)
class Prediction:
    """The loss of a run that has not been trained, from those of smaller runs.

    Attributes:
        loss: of the fitted law; low, high: a 95 % prediction interval of one new run.
        as_last: the baseline "as the largest rung".
        straight: the baseline of a straight line in log-log, which has no floor.
        noise: relative standard deviation of a run around the law.
        runs, rungs: numbers of what the fit uses.
    """

    loss: float
    low: float
    high: float
    as_last: float
    straight: float
    noise: float
    law: PowerLaw
    runs: int
    rungs: int


def fit_power_law(x: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """Fit a power law with a floor to losses at x.

    Raises:
        ValueError: fewer than three different x, or a value that is not positive and finite.
    """
    sizes, values = _check(x, losses)
    unit = float(np.exp(np.log(sizes).mean()))
    floor, scale, exponent = _fit(sizes / unit, values[None])
    return PowerLaw(float(floor[0]), float(scale[0]), float(exponent[0]), unit)


def predict_loss(
    x: Sequence[float], losses: Sequence[float], target: float, *, seed: int = 0, draws: int = DRAWS
) -> Prediction:
    """Predict the loss at `target` from runs at x; runs that differ in their seed alone have the same x.

    The interval comes from resampling: runs are drawn anew around the fitted law, with the deviation of the residuals,
    whose own uncertainty is drawn as well, and the law is fitted again to each draw. It holds where the law does.

    Raises:
        ValueError: fewer than four runs or three different x, or a value that is not positive and finite.
    """
    sizes, values = _check(x, losses)
    if len(values) <= PARAMETERS:
        raise ValueError(
            f"{len(values)} runs: an interval needs at least {PARAMETERS + 1}, one more than the law has parameters"
        )
    law = fit_power_law(x, losses)
    fitted = np.array([law.loss(size) for size in sizes])
    freedom = len(values) - PARAMETERS
    noise = float(np.sqrt(((values / fitted - 1) ** 2).sum() / freedom))

    random = np.random.default_rng(seed)
    noises = noise * np.sqrt(freedom / random.chisquare(freedom, draws))
    drawn = fitted * (1 + noises[:, None] * random.standard_normal((draws, len(values))))
    floor, scale, exponent = _fit(sizes / law.unit, np.maximum(drawn, 1e-9))
    predicted = floor + scale * (target / law.unit) ** -exponent
    predicted *= 1 + noises * random.standard_normal(draws)
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(predicted, [tail, 1 - tail])
    slope, height = np.polyfit(np.log(sizes), np.log(values), 1)
    return Prediction(
        loss=law.loss(target),
        low=float(low),
        high=float(high),
        as_last=float(values[sizes == sizes.max()].mean()),
        straight=float(np.exp(height + slope * np.log(target))),
        noise=noise,
        law=law,
        runs=len(values),
        rungs=len(set(sizes.tolist())),
    )


def _check(x: Sequence[float], losses: Sequence[float]) -> tuple[Floats, Floats]:
    sizes, values = np.asarray(x, np.float64), np.asarray(losses, np.float64)
    if sizes.shape != values.shape or sizes.ndim != 1:
        raise ValueError(f"{len(sizes)} sizes for {len(values)} losses: each run has one of both")
    for numbers in (sizes, values):
        if not (np.isfinite(numbers) & (numbers > 0)).all():
            raise ValueError("sizes and losses must be positive and finite")
    if len(set(sizes.tolist())) < PARAMETERS:
        raise ValueError(
            f"{len(set(sizes.tolist()))} different sizes: a power law with a floor needs at least {PARAMETERS}"
        )
    return sizes, values


def _fit(x: Floats, losses: Floats) -> tuple[Floats, Floats, Floats]:
    """Return floor, scale and exponent, [D] each, for draws of losses [D, n] at x [n]."""
    step = EXPONENTS[1] / EXPONENTS[0]
    floor, scale, exponent = _search(x, losses, EXPONENTS[None])
    for zoom in ZOOMS:
        finer = exponent[:, None] * step ** (zoom * np.linspace(-1, 1, 21))
        floor, scale, exponent = _search(x, losses, finer)
    return floor, scale, exponent


def _search(x: Floats, losses: Floats, exponents: Floats) -> tuple[Floats, Floats, Floats]:
    """Return floor, scale and exponent, [D] each, with the least error among exponents [D, K] or [1, K]."""
    floor, scale, error = _project(x, losses, exponents)
    rows, best = np.arange(len(losses)), error.argmin(axis=1)
    exponents = np.broadcast_to(exponents, floor.shape)
    return floor[rows, best], scale[rows, best], exponents[rows, best]


def _project(x: Floats, losses: Floats, exponents: Floats) -> tuple[Floats, Floats, Floats]:
    """Solve floor, scale >= 0 by least squares of relative errors; return them and the squared errors, [D, K] each.

    Args:
        losses: [D, n]; exponents: [D, K], or [1, K] for all draws.
    """
    weights = 1 / losses  # each row of the equations is divided by its loss, and all targets are 1
    squares = weights * weights
    power = (x ** -exponents[..., None]).swapaxes(1, 2)  # [D or 1, n, K]
    a, p = squares.sum(1)[:, None], weights.sum(1)[:, None]
    b, c = _multiply(squares, power), _multiply(squares, power * power)
    q = _multiply(weights, power)
    determinant = np.maximum(a * c - b * b, 1e-12 * a * c)
    floor, scale = (c * p - b * q) / determinant, (a * q - b * p) / determinant
    # Where one of both would be negative, it is 0, and the other is fitted alone.
    floor, scale = (
        np.where(scale < 0, p / a, np.where(floor < 0, 0, floor)),
        np.where(scale < 0, 0, np.where(floor < 0, q / c, scale)),
    )
    explained = 2 * (floor * p + scale * q) - floor * (floor * a + 2 * scale * b) - scale**2 * c
    return floor, scale, len(x) - explained


def _multiply(vectors: Floats, matrices: Floats) -> Floats:
    """Multiply vectors [D, n] by matrices [D, n, K], or by one [1, n, K]."""
    if len(matrices) == 1:
        return vectors @ matrices[0]
    return (vectors[:, None] @ matrices)[:, 0]
