"""The learning rate of a run that continues with another number of steps or another schedule."""

import json
from itertools import pairwise

import pytest

from gptexp.config.schema import ConstantConfig, CosineConfig, LinearConfig
from gptexp.training.schedule import Plan


def continue_plan(before, done, config, steps):
    """Continue after `done` steps of a plan, through the JSON of a checkpoint."""
    return Plan.restore(config, steps, done, json.loads(json.dumps(before.state(done))))


def rates(*plans):
    """Return the multipliers of steps that several plans share: (plan, first step, last step)."""
    return [plan.multiplier(step) for plan, start, end in plans for step in range(start, end)]


@pytest.mark.parametrize("config", [LinearConfig(), CosineConfig(), LinearConfig(warmup_steps=0)])
@pytest.mark.parametrize(
    ("planned", "done", "steps"),
    [(10, 10, 20), (10, 10, 11), (1000, 1000, 2000), (1000, 1000, 1100), (10_000, 9000, 50_000)],
)
def test_a_longer_run_rises_to_its_schedule_without_a_jump(config, planned, done, steps):
    before = Plan(config, planned)
    after = continue_plan(before, done, config, steps)
    curve = rates((before, done - 1, done), (after, done, steps))
    assert all(0 < late < 2.001 * early for early, late in pairwise(curve))
    final = Plan(config, steps)
    if steps > done + 50:
        assert curve[-1] == final.multiplier(steps - 1)
        assert max(curve) > 0.7 * max(rates((final, done, steps)))
        assert "a re-warm-up" in after.describe(done)


def test_a_run_that_has_not_begun_to_decay_continues_as_if_planned_so_from_the_start():
    before, longer = Plan(LinearConfig(), 1000), Plan(LinearConfig(), 5000)
    after = continue_plan(before, 300, LinearConfig(), 5000)
    assert rates((after, 300, 5000)) == rates((longer, 300, 5000))
    assert (
        after.describe(300)
        == "the learning rate goes on at 1 of its peak, as schedule=linear has it"
    )


@pytest.mark.parametrize(
    ("config", "done", "steps"),
    [
        (LinearConfig(), 300, 310),
        (LinearConfig(final_lr_fraction=0.1), 300, 400),
        (CosineConfig(), 100, 120),
    ],
)
def test_a_shorter_run_decays_from_where_the_rate_stands(config, done, steps):
    before = Plan(ConstantConfig(), 1000)
    after = continue_plan(before, done, config, steps)
    curve = rates((before, done - 1, done), (after, done, steps))
    assert all(late <= early for early, late in pairwise(curve))
    assert all(early - late < 3 / (steps - done) for early, late in pairwise(curve))
    assert curve[-1] == pytest.approx(Plan(config, steps).multiplier(steps - 1))
    assert "falls evenly from 1 of its peak" in after.describe(done)


def test_a_continued_plan_survives_a_second_and_a_third_stop():
    first = Plan(LinearConfig(), 100)
    second = continue_plan(first, 100, LinearConfig(), 200)
    for stop in (100, 101, 105, 150):  # a stop at 100 leaves the checkpoint of the first run
        again = continue_plan(first if stop == 100 else second, stop, LinearConfig(), 200)
        assert rates((again, stop, 200)) == rates((second, stop, 200))
        assert bool(again.describe(stop)) == (stop == 100)
    third = continue_plan(second, 200, LinearConfig(), 400)
    assert third.multiplier(200) <= 2 * second.multiplier(199)


def test_an_unchanged_plan_is_the_schedule():
    plan = Plan(CosineConfig(), 50)
    again = continue_plan(plan, 20, CosineConfig(), 50)
    assert (again.continuation, again.describe(20)) == (None, "")
    assert continue_plan(plan, 0, CosineConfig(), 90).continuation is None
