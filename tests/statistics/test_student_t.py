import math

import pytest

from gptexp.statistics.student_t import (
    critical_value,
    detectable_difference,
    f_tail,
    power_of_test,
    two_sided_p,
)


@pytest.mark.parametrize(
    ("df", "level", "value"),
    [
        (1, 0.05, 12.706),
        (2, 0.05, 4.303),
        (4, 0.05, 2.776),
        (10, 0.01, 3.169),
        (22, 0.05, 2.074),
        (1e9, 0.05, 1.960),
    ],
)
def test_quantiles_are_those_of_printed_tables(df, level, value):
    assert critical_value(df, level) == pytest.approx(value, abs=1e-3)
    assert two_sided_p(-critical_value(df, level), df) == pytest.approx(level, rel=1e-6)


def test_the_tail_of_f_is_that_of_printed_tables():
    assert f_tail(19.0, 2, 2) == pytest.approx(0.05, abs=1e-6)
    assert f_tail(4.2565, 2, 9) == pytest.approx(0.05, abs=1e-5)
    assert f_tail(3.0**2, 1, 7) == pytest.approx(two_sided_p(3.0, 7))


@pytest.mark.parametrize(("n", "deviations"), [(3, 3.3), (5, 1.7), (8, 1.2), (10, 1.0)])
def test_few_seeds_see_large_differences_only(n, deviations):
    assert detectable_difference(n - 1, 0.05) / math.sqrt(n) == pytest.approx(deviations, abs=0.05)


@pytest.mark.parametrize("df", [1, 2, 30, 1e9])
def test_without_a_difference_the_power_is_the_level(df):
    assert power_of_test(0.0, df, 0.05) == pytest.approx(0.05, rel=0.01)
