import textwrap
from pathlib import Path
from typing import Any

from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import JobEntry, SweepFolder
from gptexp.runs.tables import (
    is_companion,
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
    sweep = make_sweep(tmp_path, {1: {"metrics": {"test/f1": 0.5}}})
    sweep.add(JobEntry(1, ["++task=x", "seed=1"], "finished"))
    for seed in (2, 3):
        words, reason = ["++task=x", f"seed={seed}"], "no room\non the disk"
        sweep.add(JobEntry(seed, words, "failed", reason=reason, code=1))
    assert [line.split() for line in sweep_table(sweep).splitlines()] == [
        ["sweep,", "the", "best", "first:"],
        ["seed=1", "run-1", "test/f1", "0.5"],
        ["seed=2", "failed", "no", "room"],
        ["seed=3", "failed", "as", "above"],
    ]


def make_sweep(path: Path, results: dict[int, dict[str, Any]]) -> SweepFolder:
    """A sweep over seeds whose jobs have finished with these results."""
    sweep = SweepFolder.create(path / "sweep", command=[], keys=[])
    for seed, result in results.items():
        run = RunFolder(path / f"run-{seed}")
        run.path.mkdir()
        run.write_record("result", primary_metric="test/f1", status="finished", **result)
        sweep.add(JobEntry(seed, [f"seed={seed}"], "finished", run.name))
    return sweep


def first_words(sweep: SweepFolder) -> list[str]:
    return [line.split()[0] for line in sweep_table(sweep).splitlines()[1:]]


def test_jobs_of_a_sweep_are_sorted_by_their_metric_and_then_by_their_loss(tmp_path):
    scores = {1: (0, 3), 2: (0.5, 4), 3: (0, 2)}
    results = {
        seed: {"metrics": {"test/f1": score, "val/loss": loss}, "higher_is_better": True}
        for seed, (score, loss) in scores.items()
    }
    sweep = make_sweep(tmp_path, results)
    sweep.add(JobEntry(4, ["seed=0"], "failed", reason="failed early\nTraceback", code=1))
    lines = sweep_table(sweep).splitlines()
    assert lines[0] == "sweep, the best first:"
    assert first_words(sweep) == ["seed=2", "seed=3", "seed=1", "seed=0"]
    assert lines[1].split()[2:] == ["test/f1", "0.5", "val/loss", "4"]
    assert lines[4].split() == ["seed=0", "failed", "failed", "early"]


def test_a_metric_may_be_the_better_the_lower_it_is(tmp_path):
    sweep = make_sweep(tmp_path, {seed: {"metrics": {"test/f1": seed}} for seed in (3, 1, 2)})
    assert first_words(sweep) == ["seed=1", "seed=2", "seed=3"]


def test_jobs_without_metrics_have_no_order(tmp_path):
    assert sweep_table(make_sweep(tmp_path, {1: {"metrics": {}}})).startswith("sweep:\n")


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


def test_only_companions_of_a_metric_belong_to_it():
    names = ["test/chrf", "test/low/chrf", "test/slow/chrf", "test/unbaseline/chrf", "low"]
    assert [name for name in names if is_companion(name)] == ["test/low/chrf"]
