from dataclasses import dataclass, field

import pytest
import torch

from gptexp.distributed.process_group import ProcessGroup
from gptexp.runs import timings
from gptexp.training import stragglers
from gptexp.training.stragglers import MIN_STEPS, ExchangeTimer, StragglerWatch
from gptexp.training.throughput import ThroughputMeter

CPU = torch.device("cpu")


@dataclass(frozen=True)
class GroupOfThree(ProcessGroup):
    """Rank zero of three. The others have the rows of `others` in the sum of a table."""

    others: list = field(default_factory=list)

    def all_reduce(self, tensor):
        tensor[1:] = torch.tensor(self.others)
        return tensor

    def all_gather(self, value):
        return ["here", "there", "far"]


def measured(steps):
    """A line of rank zero: 1 s of its own work, of which 0.1 s is a wait for data."""
    meter = ThroughputMeter(1, None, CPU, ranks=3)
    meter.steps, meter.train_seconds, meter.own_seconds = steps, 1.5, 1.0
    meter.lost[timings.DATA] = 0.1
    return meter


@pytest.fixture
def watch():
    def build(*others):
        group = GroupOfThree(0, 3, 0, 3, others=[list(other) for other in others])
        return StragglerWatch(group, CPU)

    return build


def test_a_slow_rank_is_named_once_with_its_wait_for_data(watch, capsys):
    watch = watch((1.0, 0.1, 0.5), (1.5, 0.6, 2.0))  # own seconds, data seconds, memory
    for _ in range(2):
        row = watch.compare(measured(MIN_STEPS))
        assert row[timings.SLOWEST_RANK] == 2
        assert row[timings.SLOWEST_RATIO] == 1.5
        assert row[timings.PEAK_MEMORY] >= 2.0
    assert capsys.readouterr().err == (
        "rank 2 on far is slow: 150 ms a step for its own work, 60 ms of which it waits for data; "
        "the median of the others is 100 ms, and they wait for it in each step\n"
    )


def test_equal_ranks_and_few_steps_are_not_reported(watch, capsys):
    even = watch((1.1, 0.1, 0.5), (1.0, 0.1, 0.5))
    assert even.compare(measured(MIN_STEPS))[timings.SLOWEST_RATIO] == pytest.approx(1.1 / 1.0)
    hasty = watch((1.0, 0.1, 0.5), (3.0, 0.1, 0.5))
    assert hasty.compare(measured(MIN_STEPS - 1))[timings.SLOWEST_RANK] == 2
    assert not capsys.readouterr().err
    hasty.compare(measured(1))  # now the steps of both lines are enough
    assert capsys.readouterr().err.startswith("rank 2 on far is slow")


def test_a_process_alone_is_compared_with_nobody():
    watch = StragglerWatch(ProcessGroup(0, 1, 0, 1), CPU)
    assert watch.compare(measured(MIN_STEPS)) == {}


def test_the_own_work_of_a_rank_is_its_step_without_the_exchange(monkeypatch):
    times = iter([0.0, 3.0, 3.0 + 7.0])
    monkeypatch.setattr(stragglers.time, "perf_counter", lambda: next(times))
    timer = ExchangeTimer(CPU, is_active=True)
    timer.start_step()
    timer.start_exchange()
    timer.end_exchange()
    assert timer.read() == 7.0
    assert timer.read() == 0.0


def test_a_skipped_step_has_no_exchange():
    timer = ExchangeTimer(CPU, is_active=True)
    timer.start_step()
    timer.end_exchange()
    assert timer.read() == 0.0
