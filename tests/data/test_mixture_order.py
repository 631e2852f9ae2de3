import random

import numpy as np
import pytest

from gptexp.data.mixture_order import MixtureOrder, Phase, count_in_cycle


@pytest.mark.parametrize("seed", range(12))
def test_each_source_has_its_share_of_every_prefix_to_within_one_sequence(seed):
    rng = random.Random(seed)
    weights = [round(rng.random() ** 3, seed % 3 + 1) for _ in range(rng.randint(1, 7))] + [0.3]
    order = MixtureOrder([Phase(0, tuple(weights))])
    sources = order.sources(0, 5000)
    prefixes = np.arange(1, 5001)
    for number, weight in enumerate(weights):
        counts = np.cumsum(sources == number)
        assert (abs(counts - prefixes * weight / sum(weights)) < 1).all()


def test_the_weights_of_a_phase_hold_from_its_start_on():
    phases = [Phase(0, (0.7, 0.2, 0.1)), Phase(37, (0, 1, 3)), Phase(100, (2, 1, 0))]
    sources = MixtureOrder(phases).sources(0, 400)
    for (start, weights), end in zip(phases, (37, 100, 400), strict=True):
        counts = np.bincount(sources[start:end], minlength=3)
        assert (abs(counts - (end - start) * np.array(weights) / sum(weights)) < 1).all()


def test_any_position_is_computed_without_those_before_it():
    order = MixtureOrder([Phase(0, (0.7, 0.2, 0.1)), Phase(37, (1, 1, 8)), Phase(100, (0, 1, 1))])
    sources = order.sources(0, 300)
    for position in range(250):
        counts = np.bincount(sources[:position], minlength=3)
        assert order.count_before(position).tolist() == counts.tolist()
        assert order.sources(position, 50).tolist() == sources[position : position + 50].tolist()
    assert order.count_before(10**15).sum() == 10**15


def test_weights_are_taken_as_they_are_written_or_rounded():
    assert count_in_cycle([0.7, 0.3]) == [7, 3]
    assert count_in_cycle([2, 1]) == [2, 1]
    assert count_in_cycle([0.123457, 0.876543]) == [1235, 8765]
    assert sum(count_in_cycle([1 / 3, 1 / 7, 1 / 11])) == 10_000
