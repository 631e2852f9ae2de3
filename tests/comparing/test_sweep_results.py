import csv
import io

import pytest

from gptexp.comparing.sweep_results import sweep_results
from gptexp.comparing.tables import sweep_csv
from gptexp.comparing.terminal import sweep_text, verdict_text
from gptexp.pages.sweep_page import format_sweep_page
from gptexp.run import _end_sweep
from gptexp.runs.sweep_folder import JobEntry, SweepFolder
from gptexp.statistics.verdict import Verdict

BASE = [float(number % 7) for number in range(40)]


@pytest.fixture
def sweep(own_folder):
    return SweepFolder.create(
        own_folder / "outputs" / "sweep-lr-1", command=["gptexp", "run"], keys=["optim.lr"]
    )


@pytest.fixture
def add_job(sweep, make_run):
    """Add a finished job whose metric is `value` more than that of BASE."""

    def call(lr: float, seed: int, value: float, name: str | None = None) -> None:
        number = len(sweep.jobs()) + 1
        name = name or f"translate-nano-{number}"
        make_run(name, [score + value for score in BASE], seed=seed, optim__lr=lr)
        words = ["task=translate", f"optim.lr={lr}", f"seed={seed}"]
        sweep.add(JobEntry(number, words, "finished", run=name))

    return call


def test_configs_over_seeds_are_sorted_and_judged_against_the_best(sweep, add_job):
    for lr, values in {0.01: (1.0, 1.1, 1.2), 0.02: (5.0, 5.2, 5.1), 0.03: (5.1, 5, 5.1)}.items():
        for seed, value in enumerate(values, 1):
            add_job(lr, seed, value)
    results = sweep_results(sweep)
    assert [row.overrides for row in results.rows][2] == ("optim.lr=0.01",)
    best, close, worst = results.rows
    assert best.is_best
    assert best.verdict is None
    assert (close.verdict.word, worst.verdict.word) == ("cannot tell", "worse")
    assert worst.verdict.scope == "configs"
    assert [summary.n for row in results.rows for summary in row.metrics.values()] == [3, 3, 3]
    assert "seed that the sweep has not seen" in results.notes[0]


def test_of_configs_with_equal_metrics_the_one_with_the_lower_loss_is_the_best(sweep, make_run):
    for number, (lr, loss) in enumerate([(0.1, 0.3), (0.2, 0.1), (0.3, 0.2)], 1):
        for seed in (1, 2):
            name = f"translate-nano-{number}-{seed}"
            metrics = {"test/f1": 0.7 + seed / 10, "test/loss": loss}
            make_run(name, metrics=metrics, seed=seed, optim__lr=lr)
            words = ["task=translate", f"optim.lr={lr}", f"seed={seed}"]
            sweep.add(JobEntry(2 * number + seed, words, "finished", run=name))
    rows = sweep_results(sweep).rows
    assert [row.overrides[0] for row in rows] == ["optim.lr=0.2", "optim.lr=0.3", "optim.lr=0.1"]
    assert rows[0].is_best


def test_a_verdict_that_is_open_says_how_many_seeds_would_decide():
    verdict = Verdict("cannot tell", 0.1, -0.2, 0.4, 3, 0, 0.5, 4, "configs", "")
    text = "cannot tell +0.1 (-0.2 to +0.4) about 4 more seeds would"
    assert verdict_text(verdict) == text


def test_one_config_over_seeds_has_a_table_of_its_metrics(sweep, add_job):
    for seed, value in enumerate((1.0, 2.0, 3.0), 1):
        add_job(0.01, seed, value)
    sweep.add(JobEntry(4, ["task=translate", "optim.lr=0.01", "seed=4"], "failed", reason="full"))
    text = " ".join(sweep_text(sweep_results(sweep)).split())
    assert "metric mean sd 95 % interval of the mean seeds test/f1 4.875 1 2.391 to 7.359 3" in text
    assert "job 4 (seed=4) failed: full" in text


def test_a_config_with_a_failed_seed_is_not_the_best(sweep, add_job, make_run):
    for seed in (1, 2, 3):
        add_job(0.1, seed, 1.0 + seed / 10)
        add_job(0.2, seed, 0.9 + seed / 11)
    for seed in (1, 2):
        add_job(0.5, seed, 5.0 + seed / 12)
    run = make_run("broken", seed=3, optim__lr=0.5)
    run.write_record("result", status="failed", error="not finite")
    words = ["task=translate", "optim.lr=0.5", "seed=3"]
    sweep.add(JobEntry(9, words, "failed", run="broken", reason="not finite"))
    results = sweep_results(sweep)
    assert results.best().overrides == ("optim.lr=0.1",)
    [row] = [row for row in results.rows if row.overrides == ("optim.lr=0.5",)]
    assert row.verdict.word == "cannot tell"
    assert "more failed seeds" in row.verdict.sentence
    assert results.notes[-1].endswith("it is not called better: optim.lr=0.5")


def test_one_seed_each_is_judged_over_examples_and_says_so(sweep, add_job):
    add_job(0.01, 1, 0.0)
    add_job(0.02, 1, 2.0)
    results = sweep_results(sweep)
    best, other = results.rows
    assert best.overrides == ("optim.lr=0.02",)
    assert other.verdict.scope == "models"
    assert "one seed each" in results.notes[1]


def test_jobs_without_a_result_stand_below_with_their_reasons(sweep, add_job):
    add_job(0.01, 1, 0.0)
    sweep.add(
        JobEntry(2, ["task=translate", "optim.lr=9", "seed=1"], "failed", reason="not\x1b finite")
    )
    sweep.add(JobEntry(3, ["task=translate", "optim.lr=8", "seed=1"], "pruned", reason="hopeless"))
    sweep.add(JobEntry(4, ["task=translate", "optim.lr=7", "seed=1"], "proposed"))
    for number in (5, 6):
        words = ["task=translate", f"optim.lr={number}", "seed=1"]
        sweep.add(JobEntry(number, words, "failed", reason="no such file"))
    add_job(0.02, 1, 1.0)
    results = sweep_results(sweep)
    assert "optim.lr=0.02 is the best of 2 configs" in results.notes[0]
    assert results.counts() == {"finished": 2, "failed": 3, "pruned": 1, "proposed": 1}
    text = sweep_text(results, 100)
    assert text.startswith("sweep-lr-1: 7 jobs (2 finished, 3 failed, 1 pruned, 1 proposed)\n")
    assert "job 3 (optim.lr=8) pruned: hopeless" in text
    assert "jobs 5, 6 failed: no such file" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_sweep_that_has_just_begun_has_no_verdicts(sweep):
    assert sweep_results(sweep).rows == []
    sweep.add(JobEntry(1, ["optim.lr=1"], "running"))
    results = sweep_results(sweep)
    assert (results.primary_metric, results.best(), len(results.rows)) == ("", None, 1)
    assert "1 running" in sweep_text(results)


def test_jobs_on_other_test_examples_have_no_verdicts(sweep, add_job, make_run):
    add_job(0.01, 1, 0.0)
    make_run("other", BASE, texts="u")
    sweep.add(JobEntry(2, ["task=translate", "data.path=u"], "finished", run="other"))
    results = sweep_results(sweep)
    assert results.best() is None
    assert all(row.reason.startswith("not comparable: ") for row in results.rows)
    assert "different test examples" in results.notes[0]


def test_jobs_of_different_tasks_are_shown_with_their_own_metrics(sweep, add_job, make_run):
    add_job(0.01, 1, 0.0)
    run = make_run("other", metrics={"test/loss": 1.5}, task__kind="pretrain")
    run.update_result(primary_metric="test/loss", higher_is_better=False)
    sweep.add(JobEntry(2, ["task=pretrain", "seed=1"], "finished", run="other"))
    results = sweep_results(sweep)
    assert (results.primary_metric, results.best()) == ("", None)
    text = " ".join(sweep_text(results).split())
    assert "task=pretrain test/loss 1.5" in text
    assert "different primary metrics, test/f1, test/loss: nothing sorts them" in text


def test_a_job_that_has_no_config_yet_is_not_there_yet(sweep, add_job):
    add_job(0.01, 1, 0.0)
    (sweep.path.parent / "begun").mkdir()
    sweep.add(JobEntry(2, ["task=translate", "optim.lr=0.02", "seed=1"], "running", run="begun"))
    results = sweep_results(sweep)
    assert list(results.runs) == [1]
    assert [row.reason for row in results.rows] == ["", "no job of it has finished"]


@pytest.mark.parametrize(
    ("objective", "word"), [("primary_metric", "no difference that matters"), ("val/loss", "worse")]
)
def test_the_margin_of_the_sweep_counts_where_it_is_one_of_the_metric(
    sweep, add_job, make_run, objective, word
):
    sweep.update_settings(objective=objective, margin=5.0)
    add_job(0.01, 1, 0.0)
    make_run("better", [score + 2 + number % 3 for number, score in enumerate(BASE)])
    words = ["task=translate", "optim.lr=0.02", "seed=1"]
    sweep.add(JobEntry(2, words, "finished", run="better"))
    assert sweep_results(sweep).rows[1].verdict.word == word
    assert sweep_results(sweep, 0.0).rows[1].verdict.word == "worse"


def test_a_metric_of_unknown_direction_has_no_best_config(sweep, make_run):
    for number in (1, 2):
        make_run(f"run-{number}", metrics={"test/mine": float(number)})
        words = ["task=translate", f"optim.lr={number}"]
        sweep.add(JobEntry(number, words, "finished", run=f"run-{number}"))
    sweep.update_settings(primary_metric="test/mine")
    results = sweep_results(sweep)
    assert (results.higher_is_better, results.best()) == (None, None)
    note = "nothing says whether a higher or a lower test/mine is better: no config is the best"
    assert note in " ".join(sweep_text(results).split())
    assert note in format_sweep_page(sweep, results)


def test_the_csv_has_a_line_for_each_job(sweep, add_job):
    add_job(0.01, 1, 0.0)
    add_job(0.02, 1, 2.0)
    sweep.add(JobEntry(3, ["task=translate", "optim.lr=9", "seed=1"], "failed", reason='a "b", c'))
    rows = list(csv.DictReader(io.StringIO(sweep_csv(sweep_results(sweep)))))
    assert [row["optim.lr"] for row in rows] == ["0.01", "0.02", "9"]
    assert [row["state"] for row in rows] == ["finished", "finished", "failed"]
    assert [row["verdict"] for row in rows] == ["worse", "best", ""]
    assert float(rows[1]["test/f1"]) == pytest.approx(sum(BASE) / 40 + 2)
    assert rows[2]["reason"] == 'a "b", c'
    assert "task" not in rows[0]


def test_a_sweep_of_one_job_leaves_its_results_too(sweep, add_job, capsys):
    add_job(0.01, 1, 1.0)
    assert _end_sweep(sweep, is_over=False) == {0}
    assert sweep.results_file.is_file()
    assert sweep.report_file.is_file()
    assert "sweep-lr-1 has the jobs and their results" in capsys.readouterr().err
