import textwrap
from pathlib import Path

from gptexp.runs.sweep_jobs import Job, JobLog
from gptexp.runs.tables import (
    finished_job,
    metrics_table,
    primary_metric_text,
    samples_text,
    sweep_table,
)


def test_intervals_and_baselines_stand_beside_their_metric():
    metrics = {
        "test/loss": 1.5,
        "test/f1": 0.5,
        "test/low/f1": 0.4,
        "test/high/f1": 0.6,
        "test/baseline/f1": 0.1,
    }
    assert [line.split() for line in metrics_table(metrics).splitlines()] == [
        ["metric", "model", "95", "%", "baseline"],
        ["test/loss", "1.5"],
        ["test/f1", "0.5", "0.4", "to", "0.6", "0.1"],
    ]


def test_the_table_of_the_readme_is_as_a_run_prints_it():
    metrics = {
        "val/loss": 0.006541914,
        "test/loss": 0.007295871,
        "test/exact_match": 0.9575,
        "test/low/exact_match": 0.9375,
        "test/high/exact_match": 0.9775,
        "test/bleu": 98.48132112,
        "test/chrf": 99.31214107,
        "test/baseline/exact_match": 0.0025,
        "test/baseline/bleu": 15.5822709,
        "test/baseline/chrf": 36.48808212,
    }
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf8")
    assert textwrap.indent(metrics_table(metrics), "  ") in readme


def test_columns_and_tables_without_content_are_not_shown():
    assert metrics_table({}) == ""
    assert metrics_table({"val/loss": 1.5}).split() == ["metric", "model", "val/loss", "1.5"]


def test_the_primary_metric_needs_no_baseline():
    result = {"primary_metric": "test/f1", "metrics": {"test/f1": 0.5}, "status": "finished"}
    assert primary_metric_text(result) == "test/f1 0.5"
    result["metrics"]["test/baseline/f1"] = 0.1
    assert primary_metric_text(result) == "test/f1 0.5 (baseline 0.1)"
    assert primary_metric_text(result | {"metrics": {}}) == "finished"


def test_a_sweep_shows_the_overrides_that_differ(tmp_path):
    log = JobLog(tmp_path)
    assert log.drain() == []
    log.add(Job(["task=x", "seed=1"], "run-1", "test/f1 0.5"))
    log.add(Job(["task=x", "seed=2"], None, "no room\non the disk", 1))
    jobs = log.drain()
    assert jobs[1].code == 1
    assert [line.split() for line in sweep_table(jobs).splitlines()] == [
        ["sweep:"],
        ["seed=1", "run-1", "test/f1", "0.5"],
        ["seed=2", "failed", "no", "room"],
    ]
    assert not list(tmp_path.iterdir())


def test_jobs_of_a_sweep_are_sorted_by_their_metric_and_then_by_their_loss():
    def job(seed: int, score: float, loss: float, **more: bool) -> Job:
        metrics = {"test/f1": score, "val/loss": loss}
        result = {"primary_metric": "test/f1", "higher_is_better": True, "metrics": metrics} | more
        return finished_job([f"seed={seed}"], f"run-{seed}", result)

    jobs = [Job(["seed=0"], None, "failed early", 1), job(1, 0, 3), job(2, 0.5, 4), job(3, 0, 2)]
    lines = sweep_table(jobs).splitlines()
    assert lines[0] == "sweep, the best first:"
    assert [line.split()[0] for line in lines[1:]] == ["seed=2", "seed=3", "seed=1", "seed=0"]
    assert lines[1].split()[2:] == ["test/f1", "0.5", "val/loss", "4"]
    jobs = [job(seed, seed, 1, higher_is_better=False) for seed in (3, 1, 2)]
    assert [line.split()[0] for line in sweep_table(jobs).splitlines()[1:]] == [
        "seed=1",
        "seed=2",
        "seed=3",
    ]
    result = {"primary_metric": "test/f1", "metrics": {}, "status": "finished"}
    assert sweep_table([finished_job(["seed=1"], "run-1", result)]).startswith("sweep:\n")


def test_long_samples_are_cut_and_empty_ones_are_named():
    text = samples_text([{"input": "word " * 200, "reference": "", "output": "a"}], width=40)
    assert len(text.splitlines()) < 8
    assert "1. input" in text
    assert "..." in text
    assert "(nothing)" in text


def test_values_and_answers_before_training_stand_beside_those_after_it():
    metrics = {"test/f1": 0.5, "test/baseline/f1": 0.1, "test/before/f1": 0.2}
    assert [line.split() for line in metrics_table(metrics).splitlines()] == [
        ["metric", "before", "model", "baseline"],
        ["test/f1", "0.2", "0.5", "0.1"],
    ]
    sample = {"input": "a", "reference": "b", "output": "d", "before": "c"}
    names = [line.split()[-2] for line in samples_text([sample]).splitlines() if line]
    assert names == ["input", "reference", "before", "output"]
