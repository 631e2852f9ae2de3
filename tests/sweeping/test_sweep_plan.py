"""Which job comes next, by what the folder says. Jobs end at once here."""

import pytest

from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import JobEntry, SweepFolder
from gptexp.sweeping.search_space import read_space
from gptexp.sweeping.sweep_plan import ClaimedJob, SweepPlan, SweepSettings


@pytest.fixture
def make_plan(own_folder):
    def make(*words: str, **settings) -> SweepPlan:
        folder = SweepFolder.create(own_folder / "sweep", command=[], keys=[])
        plan = SweepPlan(folder, read_space(words), SweepSettings(**settings))
        if plan.settings.method == "grid":
            plan.add_grid()
        return plan

    return make


def finish(plan: SweepPlan, job: ClaimedJob, loss: float) -> None:
    number = job.entry.number
    run = RunFolder(plan.folder.path.parent / f"run-{number}")
    run.path.mkdir()
    run.write_record("result", status="finished", metrics={"val/loss": loss})
    plan.folder.add(JobEntry(number, job.entry.overrides, "finished", run.name))
    job.release()


def run_all(plan: SweepPlan, loss_of) -> list[str]:
    """Run all jobs one after another; return their words."""
    words = []
    while job := plan.claim_next():
        words.append(" ".join(job.entry.overrides))
        finish(plan, job, loss_of(*job.entry.overrides))
    return words


def loss_by_rate(rate: str, seed: str = "seed=0") -> float:
    value, number = float(rate.split("=")[1]), int(seed.split("=")[1])
    return value + 0.01 * ((7 * number + int(1000 * value)) % 5)  # noise


def test_a_grid_runs_all_configs_with_one_seed_before_the_next(make_plan):
    plan = make_plan("rate=1,2", "seed=1,2")
    words = ["rate=1 seed=1", "rate=2 seed=1", "rate=1 seed=2", "rate=2 seed=2"]
    assert [" ".join(job.overrides) for job in plan.folder.jobs()] == words
    assert run_all(plan, loss_by_rate) == words
    assert run_all(make_plan("rate=1,2", "seed=1,2"), loss_by_rate) == []


def test_more_seeds_or_configs_continue_the_sweep(make_plan):
    run_all(make_plan("rate=1,2", "seed=1"), loss_by_rate)
    more = make_plan("rate=1,2,3", "seed=1,2")
    words = ["rate=3 seed=1", "rate=1 seed=2", "rate=2 seed=2", "rate=3 seed=2"]
    assert run_all(more, loss_by_rate) == words


def test_the_same_command_repeats_what_is_unfinished_first(make_plan):
    plan = make_plan("rate=1,2,3,4")
    states = {1: "stopped", 2: "finished", 3: "failed", 4: "running"}
    for number, state in states.items():
        plan.folder.add(JobEntry(number, [f"rate={number}"], state, f"run-{number}"))
    (plan.folder.path.parent / "run-3").mkdir()
    RunFolder(plan.folder.path.parent / "run-3").write_record("crash", step=1)
    # The run of job 2 is not there any more; job 3 has diverged, and would again.
    assert run_all(plan, loss_by_rate) == ["rate=1", "rate=2", "rate=4"]


def test_a_job_that_fails_is_not_tried_again_by_the_same_command(make_plan):
    plan = make_plan("rate=1,2")
    job = plan.claim_next()
    plan.folder.add(JobEntry(1, ["rate=1"], "failed", code=1))
    job.release()
    assert run_all(plan, loss_by_rate) == ["rate=2"]
    assert run_all(make_plan("rate=1,2"), loss_by_rate) == ["rate=1"]


def test_two_commands_share_the_jobs_of_a_sweep(make_plan):
    one, other = make_plan("rate=1,2,3"), make_plan("rate=1,2,3")
    claimed = [one.claim_next(), other.claim_next(), one.claim_next()]
    assert [job.entry.number for job in claimed] == [1, 2, 3]
    assert other.claim_next() is None
    assert other.has_jobs_elsewhere()
    for job in claimed:
        job.release()
    assert other.has_jobs_elsewhere()  # that has been left since `claim_next`
    assert other.claim_next().entry.number == 1  # its process is gone without a word


def test_a_search_has_n_trials_configs_over_all_commands(make_plan):
    words = ("rate=interval(0,1)",)
    first = run_all(make_plan(*words, method="random", n_trials=3), loss_by_rate)
    assert len(first) == len(set(first)) == 3
    again = run_all(make_plan(*words, method="random", n_trials=5), loss_by_rate)
    assert len(again) == 2
    assert not set(first) & set(again)


def test_seeds_go_to_the_configs_that_are_undecided(make_plan):
    plan = make_plan("rate=1,1.002,9", "seed=1,2,3,4", seeds_for="undecided")
    words = run_all(plan, loss_by_rate)
    counts = {rate: sum(f"rate={rate} " in word for word in words) for rate in ("1", "1.002", "9")}
    assert counts == {"1": 4, "1.002": 4, "9": 1}  # the noise of the others tells that 9 is worse
    assert words[:3] == ["rate=1 seed=1", "rate=1.002 seed=1", "rate=9 seed=1"]


def test_seeds_of_a_single_config_are_all_run(make_plan):
    plan = make_plan("rate=1", "seed=1,2,3", seeds_for="undecided")
    assert len(run_all(plan, loss_by_rate)) == 3


def test_words_in_another_order_and_those_without_effect_repeat_no_job(make_plan):
    make_plan("a=1,2", "b=1,2", "trainer.progress=true")
    again = make_plan("b=1,2", "trainer.progress=false", "a=1,2")
    assert len(again.folder.jobs()) == 4
    job = again.claim_next()
    assert job.words == ["trainer.progress=False", "b=1", "a=1"]
    job.release()
    more = make_plan("b=1,2,3", "trainer.progress=false", "a=1,2")
    added = more.folder.jobs()[4].overrides
    assert added == ["trainer.progress=True", "a=1", "b=3"]  # as those before, for one table


def test_seeds_that_come_later_begin_with_the_one_that_jobs_have_had(make_plan):
    run_all(make_plan("rate=1,2"), loss_by_rate)
    more = run_all(make_plan("rate=1,2", "seed=1,2"), loss_by_rate)
    assert more == ["rate=1 seed=2", "rate=2 seed=2"]
