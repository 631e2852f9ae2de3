"""The order of a mixture: which source the i-th sequence of a run comes from, and how many of that source came before.

Both are functions of i alone, so a run that resumes, on any number of ranks, needs no state of the sources. Weights are
turned into a cycle that repeats: of n sequences from its start, each source has n times its weight, to within one. Such
cycles exist for all weights (Tijdeman 1980, the chairman assignment problem), and serving the earliest deadline first
finds one (Baruah et al. 1996, proportionate progress).
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CYCLE = 10_000  # sequences; weights that need more count to one ten-thousandth


class Phase(NamedTuple):
    """Weights that hold from a sequence on."""

    start: int  # first sequence
    weights: tuple[float, ...]  # of the sources, not all of them 0


class MixtureOrder:
    """The order of a run over K sources.

    Args:
        phases: in the order of their starts, the first of which is 0.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.starts = [phase.start for phase in phases]
        self.cycles = [Cycle(count_in_cycle(phase.weights)) for phase in phases]
        self.counts_before = [np.zeros(len(phases[0].weights), np.int64)]  # of each phase, [K]
        for cycle, start, end in zip(self.cycles, self.starts, self.starts[1:], strict=False):
            self.counts_before.append(self.counts_before[-1] + cycle.count(end - start))

    def describe(self) -> list[tuple[int, list[int]]]:
        """Return the start of each phase, and how many sequences of its cycle come from each source."""
        counts = [cycle.counts.tolist() for cycle in self.cycles]
        return list(zip(self.starts, counts, strict=True))

    def sources(self, start: int, count: int) -> NDArray[np.int64]:
        """Return the sources [count] of the sequences from `start` on."""
        parts = []
        end = start + count
        while start < end:
            phase = bisect_right(self.starts, start) - 1
            following = self.starts[phase + 1 : phase + 2] or [end]
            stop = min(end, following[0])
            parts.append(self.cycles[phase].sources(start - self.starts[phase], stop - start))
            start = stop
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def count_before(self, position: int) -> NDArray[np.int64]:
        """Return how many sequences of each source [K] come before a position."""
        phase = bisect_right(self.starts, position) - 1
        return self.counts_before[phase] + self.cycles[phase].count(position - self.starts[phase])


class Cycle:
    """Sources in an order that repeats.

    Args:
        counts: how many of its sequences come from each source.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = np.array(counts, np.int64)
        self.order = _spread(counts)  # [length]
        is_source = self.order[:, None] == np.arange(len(counts))
        self.before = np.zeros(
            (len(self.order) + 1, len(counts)), np.int64
        )  # counts of each prefix
        np.cumsum(is_source, axis=0, out=self.before[1:])

    def sources(self, start: int, count: int) -> NDArray[np.int64]:
        """Return the sources of `count` sequences from `start` on."""
        return self.order[np.arange(start, start + count) % len(self.order)]

    def count(self, length: int) -> NDArray[np.int64]:
        """Return how many of the first `length` sequences come from each source."""
        cycles, rest = divmod(length, len(self.order))
        return cycles * self.counts + self.before[rest]


def count_in_cycle(weights: Sequence[float]) -> list[int]:
    """Return how many sequences of a cycle come from each source: as the weights say, of which some is above 0.

    Weights are taken as they are written: 0.7 and 0.3 make a cycle of ten. Where the cycle would be longer than
    MAX_CYCLE, its counts are rounded.
    """
    shares = [Fraction(str(weight)) for weight in weights]
    shares = [share / sum(shares) for share in shares]
    length = math.lcm(*(share.denominator for share in shares))
    if length <= MAX_CYCLE:
        return [int(share * length) for share in shares]
    counts = [int(share * MAX_CYCLE) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda k: counts[k] - shares[k] * MAX_CYCLE)
    for source in by_remainder[: MAX_CYCLE - sum(counts)]:
        counts[source] += 1
    return counts


def _spread(counts: Sequence[int]) -> NDArray[np.int64]:
    """Return an order of sources with these counts, in which each prefix has its share of each source to within one.

    The j-th sequence of a source may come once its share exceeds j, and must come before it exceeds j + 1.
    """
    length = sum(counts)
    done = [0] * len(counts)
    order = np.empty(length, np.int64)
    for position in range(length):
        allowed = (
            (-(-(done[source] + 1) * length // count), source)
            for source, count in enumerate(counts)
            if done[source] * length < (position + 1) * count
        )
        _deadline, source = min(allowed)
        done[source] += 1
        order[position] = source
    return order
