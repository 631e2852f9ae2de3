import math

import pytest

from gptexp.statistics.summary import summarize


def test_a_summary_has_the_t_interval_of_the_mean():
    summary = summarize([1.0, 2.0, 3.0])
    assert (summary.mean, summary.sd, summary.n) == (2.0, 1.0, 3)
    assert summary.half_width == pytest.approx(2.4841, abs=1e-4)
    assert summary.low == pytest.approx(2 - 2.4841, abs=1e-4)


def test_values_that_are_no_numbers_do_not_count():
    assert summarize([1.0, None, math.nan, math.inf, 3.0]).n == 2
    one = summarize([5.0, None])
    assert (one.mean, one.sd, one.low, one.half_width) == (5.0, None, None, None)
    assert summarize([]).mean is None
