import numpy as np
import pytest

from gptexp.statistics.scaling_law import PowerLaw, fit_power_law, predict_loss

COMPUTE = np.geomspace(1e12, 3e13, 4)
LAW = PowerLaw(floor=2.0, scale=2.2, exponent=0.18, unit=1e13)


def losses_of(law, x, noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    return [law.loss(size) * (1 + noise * random.standard_normal()) for size in x]


def test_the_fit_finds_the_law_that_the_losses_follow():
    law = fit_power_law(COMPUTE, losses_of(LAW, COMPUTE))
    assert law.exponent == pytest.approx(LAW.exponent, rel=1e-3)
    assert law.floor == pytest.approx(LAW.floor, rel=1e-3)
    assert law.loss(2e14) == pytest.approx(LAW.loss(2e14), rel=1e-5)


@pytest.mark.parametrize(
    "losses",
    [
        [4.0 * (x / 1e12) ** -0.1 for x in COMPUTE],
        [4.0, 3.5, 2.5, 1.0],
        [3.0] * 4,
        [3.0, 4.0, 5, 6],
    ],
    ids=["no floor", "faster than a power", "equal", "rising"],
)
def test_floor_and_scale_are_never_negative(losses):
    law = fit_power_law(COMPUTE, losses)
    assert law.floor >= 0
    assert law.scale >= 0
    assert np.isfinite(law.loss(1e15))


def test_without_a_floor_the_fit_is_the_straight_line_in_log_log():
    losses = [4.0 * (x / 1e12) ** -0.1 for x in COMPUTE]
    prediction = predict_loss(COMPUTE, losses, 1e14)
    assert prediction.loss == pytest.approx(prediction.straight, rel=1e-3)
    assert prediction.as_last == pytest.approx(losses[-1])


def test_the_interval_covers_new_runs_as_often_as_it_says():
    x, target, hits = np.repeat(COMPUTE, 2), 1.5e14, 0
    for seed in range(100):
        losses = losses_of(LAW, x, noise=0.01, seed=seed)
        prediction = predict_loss(x, losses, target, seed=seed, draws=300)
        new = losses_of(LAW, [target], noise=0.01, seed=1000 + seed)[0]
        hits += prediction.low <= new <= prediction.high
    assert hits >= 89  # 95 are expected; fewer than 89 have a probability below 1 %


def test_more_seeds_and_more_rungs_make_the_interval_narrower():
    def width(x):
        prediction = predict_loss(x, losses_of(LAW, x, noise=0.005, seed=3), 1.5e14)
        return prediction.high - prediction.low

    assert width(np.repeat(COMPUTE, 4)) < width(np.repeat(COMPUTE, 2))
    assert width(np.repeat(np.geomspace(1e12, 3e13, 8), 2)) < width(np.repeat(COMPUTE, 2))


def test_the_same_runs_give_the_same_prediction():
    losses = losses_of(LAW, COMPUTE, noise=0.01)
    assert predict_loss(COMPUTE, losses, 1e14) == predict_loss(list(COMPUTE), losses, 1e14)


@pytest.mark.parametrize(
    ("x", "losses", "reason"),
    [
        ([1e12, 2e12, 1e12, 2e12], [4.0, 3, 4, 3], "2 different sizes"),
        ([1e12, 2e12, 4e12], [4.0, 3.5, 3], "3 runs: an interval needs at least 4"),
        ([1e12, 2e12, 4e12, 8e12], [4.0, 3.5, 3, float("nan")], "positive and finite"),
        ([1e12, 2e12, 4e12, 8e12], [4.0, 3.5, 3], "4 sizes for 3 losses"),
    ],
)
def test_too_little_for_a_law_is_refused(x, losses, reason):
    with pytest.raises(ValueError, match=reason):
        predict_loss(x, losses, 1e14)
