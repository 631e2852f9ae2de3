"""The share of the variance between configs that a setting explains."""

import numpy as np
import pytest

from gptexp.statistics.importance import explained_share

RATES = [0.01, 0.01, 0.01, 0.02, 0.02, 0.02, 0.04, 0.04, 0.04]
KINDS = ["adamw", "muon", "sgd"] * 3


def test_the_shares_of_a_balanced_grid_are_those_of_the_analysis_of_variance():
    outcomes = [10 * rate + len(kind) for rate, kind in zip(RATES, KINDS, strict=True)]
    shares = [explained_share(values, outcomes) for values in (RATES, KINDS)]
    assert shares[0].share + shares[1].share == pytest.approx(1)  # there is no interaction
    rates = np.var([0.1, 0.2, 0.4])
    assert shares[0].share == pytest.approx(rates / (rates + np.var([5, 4, 3])))
    assert shares[0].by_luck == pytest.approx(2 / 8)
    assert (shares[0].groups, shares[0].in_ranges) == (3, False)


def test_a_setting_without_effect_explains_what_luck_does_on_average():
    random = np.random.default_rng(0)
    found = [explained_share(KINDS, random.standard_normal(9).tolist()) for _ in range(500)]
    assert np.mean([each.share for each in found]) == pytest.approx(found[0].by_luck, abs=0.02)


def test_the_numbers_of_a_search_are_cut_into_ranges_where_most_differ():
    values = [float(number) for number in range(12)]
    importance = explained_share(values, [value // 4 for value in values])
    assert (importance.groups, importance.in_ranges) == (3, True)
    assert importance.share == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "outcomes", "reason"),
    [
        (["a", "b", "c", "d"], [1, 2, 3, 4], "4 configs are too few for 4 values: it takes 7"),
        ([0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4], "4 configs are too few for 3 ranges: it takes 6"),
        (["a", "b"] * 3, [2.0] * 6, "all configs have the same result"),
        (["a"] * 6, [1, 2, 3, 4, 5, 6], "has one value only"),
        ([], [], "has one value only"),
    ],
)
def test_too_little_to_tell_is_said_instead_of_a_share(values, outcomes, reason):
    importance = explained_share(values, outcomes)
    assert (importance.share, importance.reason) == (None, reason)


def test_values_and_outcomes_belong_to_the_same_configs():
    with pytest.raises(ValueError, match="3 values for 2 outcomes"):
        explained_share(["a", "b", "c"], [1.0, 2.0])
