from pathlib import Path

import pytest

from gptexp.comparing.compare_runs import compare
from gptexp.comparing.subjects import find_subjects
from gptexp.comparing.terminal import comparison_text
from gptexp.errors import UserError
from gptexp.pages.comparison_page import format_comparison_page
from gptexp.runs.sweep_folder import JobEntry, SweepFolder

LOW = [float(number % 7) for number in range(40)]
HIGH = [score + 2 + (number % 3) / 4 for number, score in enumerate(LOW)]


def test_one_run_each_is_a_test_over_examples_of_these_two_models(make_run):
    make_run("a", LOW)
    make_run("b", HIGH, optim__lr=0.02)
    comparison = compare(find_subjects(["a", "b"]))
    [row] = comparison.metrics
    verdict = row.verdicts[1]
    assert (verdict.word, verdict.scope, verdict.n_examples) == ("better", "models", 40)
    assert verdict.difference == pytest.approx(sum(HIGH) / 40 - sum(LOW) / 40)
    assert [(s.key, s.values) for s in comparison.settings] == [("optim.lr", (0.01, 0.02))]
    [examples] = comparison.examples
    assert (examples.wins, examples.losses, examples.ties) == (40, 0, 0)
    assert examples.largest_wins[0].outputs == ("output of a", "output of b")


def test_runs_that_differ_in_their_seed_alone_are_one_subject(make_run):
    for seed in (1, 2, 3):
        make_run(f"a{seed}", [score + seed / 50 for score in LOW], seed=seed)
        make_run(f"b{seed}", [score + seed / 49 for score in HIGH], seed=seed, optim__lr=0.02)
    subjects = find_subjects(["*"])
    assert [[run.name for run in subject.runs] for subject in subjects] == [
        ["a1", "a2", "a3"],
        ["b1", "b2", "b3"],
    ]
    comparison = compare(subjects)
    verdict = comparison.metrics[0].verdicts[1]
    assert (verdict.word, verdict.scope, verdict.n_seeds) == ("better", "configs", 3)
    assert [row.key for row in comparison.settings] == ["optim.lr"]
    assert len(find_subjects(["*"], each=True)) == 6


def test_the_run_that_is_named_first_is_the_reference(make_run):
    sweep = SweepFolder.create(Path("outputs/sweep-1"), command=[], keys=["optim.lr"])
    for number, name in enumerate("ab", 1):
        make_run(name, LOW, optim__lr=number)
        sweep.add(JobEntry(number, [f"optim.lr={number}", "seed=1"], "finished", run=name))
    make_run("base", LOW, optim__lr=9)
    labels = ["base", "optim.lr=1", "optim.lr=2"]
    assert [subject.label for subject in find_subjects(["base", "sweep-1"])] == labels
    subjects = find_subjects(["b", "sweep-1", "base"])  # b is one of its runs
    assert [subject.label for subject in subjects] == ["optim.lr=2", "optim.lr=1", "base"]


def test_another_run_with_the_same_seed_is_another_subject(make_run):
    for name, seed, devices in (("a", 1, 1), ("b", 2, 1), ("c", 1, 2)):
        make_run(name, LOW, seed=seed, trainer__devices=devices)
    subjects = find_subjects(["a", "b", "c"])
    assert [[run.name for run in subject.runs] for subject in subjects] == [["a", "b"], ["c"]]


def test_other_code_is_another_subject(make_run):
    make_run("a", LOW)
    make_run("b", LOW, seed=2, source="0ther")
    subjects = find_subjects(["a", "b"])
    assert len(subjects) == 2
    [row] = [row for row in compare(subjects).facts if row.name == "source"]
    assert row.values == ("5eed", "0ther")


def test_other_test_examples_are_named_in_place_of_a_verdict(make_run):
    make_run("a", LOW)
    make_run("b", HIGH, texts="u")
    comparison = compare(find_subjects(["a", "b"], each=True))
    [row] = comparison.metrics
    assert row.verdicts == (None, None)
    assert "different test examples: 40 and 40, of which both have 0 examples" in row.reasons[1]
    assert comparison.incomparable.startswith("a and b: they are scored on different test examples")


def test_more_training_data_and_the_same_test_split_compare(make_run):
    make_run("a", LOW, data__limit=100)
    run = make_run("b", HIGH, data__limit=200)
    run.write_record("data", **{**run.read_record("data"), "fingerprint": "other"})
    comparison = compare(find_subjects(["a", "b"]))
    assert comparison.incomparable is None
    assert comparison.metrics[0].verdicts[1].word == "better"


def test_old_runs_have_metrics_and_a_line_that_says_why_there_is_no_test(make_run):
    make_run("a", metrics={"test/f1": 1.0})
    make_run("b", metrics={"test/f1": 2.0}, optim__lr=0.02)
    comparison = compare(find_subjects(["a", "b"]))
    [row] = comparison.metrics
    assert [summary.mean for summary in row.summaries] == [1.0, 2.0]
    assert row.reasons[1] == (
        "one run each, and no scores of single examples that both have: repeat both with seeds=3"
    )
    assert comparison.remarks[0].startswith("without scores of single examples")
    assert comparison.remarks[0].endswith(": a, b")


def write_losses(run, values, targets):
    run.write_scores(
        {"split": "test", "unit": "batch", "id": str(i), "targets": n, "scores": {"loss": value}}
        for i, (value, n) in enumerate(zip(values, targets, strict=True))
    )


def test_losses_of_batches_weigh_as_much_as_they_have_targets(make_run):
    targets = [100 + 10 * number for number in range(24)]
    means = []
    for name, shift in (("a", 0.5), ("b", 0.3)):
        values = [2 + shift + 0.01 * (number % 4) * shift for number in range(24)]
        mean = sum(v * n for v, n in zip(values, targets, strict=True)) / sum(targets)
        metrics = {"test/loss": mean, "test/bits_per_byte": mean / 2, "test/perplexity": 9.0}
        write_losses(make_run(name, metrics=metrics, optim__lr=shift), values, targets)
        means.append(mean)
    rows = {row.name: row for row in compare(find_subjects(["a", "b"])).metrics}
    verdict = rows["test/loss"].verdicts[1]
    assert (verdict.word, verdict.difference) == ("better", pytest.approx(means[1] - means[0]))
    assert "24 batches" in verdict.sentence
    bits = rows["test/bits_per_byte"].verdicts[1]
    assert bits.difference == pytest.approx((means[1] - means[0]) / 2)
    assert rows["test/perplexity"].verdicts[1] is None


@pytest.mark.parametrize("seeds", [1, 3])
def test_few_batches_do_not_show_how_much_a_loss_depends_on_the_text(seeds, make_run):
    for seed in range(seeds):
        for name, shift in (("a", 0.5), ("b", 0.3 + seed / 100)):
            run = make_run(
                f"{name}{seed}", metrics={"test/loss": 2 + shift}, seed=seed, optim__lr=ord(name)
            )
            write_losses(run, [2 + shift] * 12, [100] * 12)
    [row] = compare(find_subjects(["*"])).metrics
    if seeds == 1:
        assert row.reasons[1] == (
            "one run each, and no scores of 20 or more batches that both have: repeat both with "
            "seeds=3"
        )
    else:
        assert (row.verdicts[1].word, row.verdicts[1].n_examples) == ("better", 0)


def test_losses_of_other_targets_do_not_compare(make_run):
    for name, count in (("a", 100), ("b", 180)):
        run = make_run(name, metrics={"test/loss": 2.0}, optim__lr=count)
        write_losses(run, [2.0] * 24, [count] * 24)
    [row] = compare(find_subjects(["a", "b"])).metrics
    assert "different parts of the test split: 2,400 and 4,320 of its predicted" in row.reasons[1]
    for name, flag in (("c", False), ("d", True)):  # as earlier versions: no scores
        make_run(
            name, metrics={"test/loss": 2.0, "test/bits_per_byte": 1.0}, task__loss_on_prompt=flag
        )
    for row in compare(find_subjects(["c", "d"])).metrics:
        assert row.reasons[1] == (
            "not comparable: their loss is of different tokens: task.loss_on_prompt differs, false "
            "and true"
        )


def test_losses_of_other_tokens_do_not_compare(make_run):
    make_run("a", metrics={"test/loss": 2.0, "test/bits_per_byte": 1.0})
    run = make_run("b", metrics={"test/loss": 3.0, "test/bits_per_byte": 1.1}, optim__lr=1.0)
    data = run.read_record("data")
    run.write_record("data", **{**data, "files": {**data["files"], "test.tokens": "other"}})
    rows = {row.name: row for row in compare(find_subjects(["a", "b"])).metrics}
    assert "loss is per token, and their tokens differ" in rows["test/loss"].reasons[1]
    assert "one run each" in rows["test/bits_per_byte"].reasons[1]


def test_a_failed_seed_is_named(make_run):
    make_run("a", LOW)
    run = make_run("b", HIGH, optim__lr=0.02)
    run.write_record("result", status="failed", error="no space\nat all")
    command = ["/usr/bin/python", "/lib/gptexp/run.py", "task=translate", "optim.lr=0.02"]
    run.write_record("environment", command=command)
    comparison = compare(find_subjects(["a", "b"]))
    assert comparison.remarks == [
        "b is not finished (failed: no space): it has no metrics; to continue it, type gptexp run task=translate "
        "optim.lr=0.02"
    ]
    with run.lock():
        remark = compare(find_subjects(["a", "b"])).remarks[0]
    assert remark == "b is not finished (a process trains it): it has no metrics"
    assert comparison.metrics[0].reasons[1] == "not measured in both"


def test_a_side_with_more_failed_seeds_is_not_called_better(make_run):
    for seed in (1, 2, 3, 4):
        make_run(f"a{seed}", [score + seed / 50 for score in LOW], seed=seed)
        run = make_run(f"b{seed}", [score + seed / 49 for score in HIGH], seed=seed, optim__lr=0.02)
        if seed == 2:
            run.write_record("result", status="failed", error="not finite")
    comparison = compare(find_subjects(["*"]))
    verdict = comparison.metrics[0].verdicts[1]
    assert (verdict.word, verdict.n_seeds, verdict.n_examples) == ("cannot tell", 3, 40)
    assert "the side with the better values has more failed seeds" in verdict.sentence
    assert comparison.examples[0].wins == 40
    [row] = compare(find_subjects(["b*", "a*"])).metrics
    assert row.verdicts[1].word == "cannot tell"


def test_the_examples_of_a_subject_stand_under_its_name(make_run):
    make_run("a", LOW)
    make_run("b", metrics={"test/f1": 1.0}, optim__lr=0.02)
    make_run("c", HIGH, optim__lr=0.03)
    comparison = compare(find_subjects(["a", "b", "c"]))
    assert [examples and examples.wins for examples in comparison.examples] == [None, 40]
    text = comparison_text(comparison)
    assert "C wins 40" in text
    assert "B wins" not in text
    page = format_comparison_page(comparison, "gptexp compare a b c", Path())
    assert "C wins 40 against A" in page


def test_scores_of_all_test_examples_are_those_of_both_parts(make_run):
    for name, scores in (("a", LOW), ("b", HIGH)):
        run = make_run(name, scores, metrics={"test/all/f1": sum(scores) / 40}, optim__lr=len(name))
        rows = run.scores()
        run.write_scores([*rows, *({**row, "split": "unsupported"} for row in rows)])
        data = run.read_record("data")
        files = {f"unsupported.{kind}": "u" for kind in ("jsonl", "tokens", "index")}
        run.write_record("data", **{**data, "files": data["files"] | files})
    rows = {row.name: row for row in compare(find_subjects(["a", "b"], each=True)).metrics}
    assert rows["test/all/f1"].verdicts[1].n_examples == 80


def test_settings_without_effect_and_defaults_of_another_version_are_told_apart(make_run):
    make_run("a", LOW)
    make_run("b", LOW, trainer__devices=2, optim__grad_clip=1.0, optim__lr=0.02)
    rows = {row.key: row for row in compare(find_subjects(["a", "b"])).settings}
    assert rows["optim.lr"].affects_result
    assert not rows["trainer.devices"].affects_result
    assert "optim.grad_clip" not in rows  # absent there, and here at its default


def test_a_word_that_names_nothing_is_answered(make_run):
    make_run("a", LOW)
    for words in (["a", "missing"], ["nothing-*"]):
        with pytest.raises(UserError):
            find_subjects(words)


def test_patterns_leave_out_archived_runs(make_run):
    make_run("a", LOW).archive()
    make_run("a", HIGH)
    assert [subject.label for subject in find_subjects(["*"])] == ["a"]
    assert [subject.label for subject in find_subjects(["a.*"])] == ["a.1"]
