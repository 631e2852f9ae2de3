"""Metrics: those that are shipped, and those of the user's own that join a task."""

import math
import sys
from pathlib import Path

import pytest
from conftest import TINY, TRAIN

from gptexp.config import compose
from gptexp.errors import UserError
from gptexp.run import run
from gptexp.tasks.extract import TermF1
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.metrics import Bleu, Chrf, ExactMatch
from gptexp.tasks.summarize import NameRecall
from gptexp.tasks.task import make_task

CAPITALS = """
from gptexp.tasks.metrics import ExampleMetric

class Capitals(ExampleMetric):
    name = "capitals"

    def score(self, output, example):
        return float(output.isupper() and len(example.input) % 2)

    def baselines(self, examples):
        return {"the input in capitals": [example.input.upper() for example in examples]}
"""


@pytest.fixture
def capitals(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (own_folder / "capitals_metric.py").write_text(CAPITALS)
    monkeypatch.syspath_prepend(str(own_folder))
    yield "capitals_metric.Capitals"
    sys.modules.pop("capitals_metric", None)


def test_texts_without_spaces_are_compared_by_characters():
    examples = [EvalExample("", "東京の天気は晴れです"), EvalExample("", "明日は雨が降ります")]
    outputs = ["東京の天気は雨です", "明日は雪が降ります"]
    assert Bleu().score_all(outputs, examples)["bleu"] > 20
    assert math.isnan(Bleu("13a").score_all(outputs, examples)["bleu"])  # a sentence is one word


def score(task, *pairs):
    outputs, examples = [], []
    for output, reference in pairs:
        outputs.append(output)
        examples.append(EvalExample("a source", reference))
    each, overall = task.score_each(outputs, examples), task.score_all(outputs, examples)
    remarks = task.describe_undefined(each | {k: [v] for k, v in overall.items()}, "test")
    return task.score(outputs, examples), " ".join(remarks)


@pytest.mark.parametrize("texts", [("one", "two"), ("two pears", "a red mill"), (".", "🙂")])
def test_bleu_is_not_shown_where_a_perfect_output_would_score_nothing(texts, tiny):
    config = tiny("task=translate", "task.max_target_tokens=8")
    task = make_task(config.task, config.model)
    scores, remarks = score(task, *zip(texts, texts, strict=True))
    assert scores["exact_match"] == 1
    assert scores["chrf"] == 100
    if "bleu" in scores:  # texts without spaces are compared by characters
        assert scores["bleu"] == 100
    else:
        assert "bleu is not shown: it is defined for references of at least four words" in remarks
    wrong = [(f"{text} no", text) for text in texts]
    assert ("bleu" in score(task, *wrong)[0]) == ("bleu" in scores)
    assert "chrf" not in score(task, ("", ""))[0]
    scores, remarks = score(task, ("a b c d e", "a b c d e"), ("ja", "ja"))
    assert scores["bleu"] == pytest.approx(100)
    assert not remarks


def test_rouge_leaves_out_references_without_words(tiny):
    config = tiny("task=summarize", "task.max_target_tokens=8")
    task = make_task(config.task, config.model)
    scores, remarks = score(task, (".", "."), ("🙂", "🙂"))
    assert not {"rouge1", "rouge2", "rougeL", "names"} & set(scores)
    assert "rougeL is not shown: it is defined for references with words" in remarks
    scores, remarks = score(task, (".", "."), ("mill", "mill"), ("a red mill", "a red mill"))
    assert scores["rouge1"] == scores["rouge2"] == scores["rougeL"] == 100
    assert "rouge1 is defined for references with words: it leaves out 1 of 3 examples" in remarks
    assert "at least two words: it leaves out 2 of 3 examples" in remarks
    baselines = task.score_baselines([EvalExample("A text.", "...")])[1]
    assert baselines.keys() == {"support", "repeated"}  # neither needs a reference


def test_terms_are_not_scored_where_no_reference_has_one():
    examples = [EvalExample("a text", ""), EvalExample("a text", " ; ")]
    assert all(map(math.isnan, TermF1().score_all(["x", ""], examples).values()))


@pytest.mark.parametrize("metric", [Chrf(), Bleu(), TermF1(), NameRecall()], ids=lambda m: m.name)
def test_contributions_have_the_mean_of_the_metric_and_rank_the_outputs(metric):
    reference = "the old mill; Anna Weber; red roses by the river"
    texts = [f"{reference} {i}" for i in range(40)]
    examples = [EvalExample(text, text) for text in texts]
    outputs = [text if i % 4 else f"some mill; {i}" for i, text in enumerate(texts)]
    (name, values), *_ = metric.contributions(outputs, examples).items()
    overall = metric.score_all(outputs, examples)[name]
    assert sum(values) / len(values) == pytest.approx(overall, rel=0.01)
    right, wrong = ([v for i, v in enumerate(values) if bool(i % 4) == kind] for kind in (1, 0))
    assert min(right) > max(wrong)
    assert len(metric.contributions(outputs[:1], examples[:1])[name]) == 1


@pytest.mark.parametrize("metric", [Chrf(), Bleu(), TermF1(), NameRecall()], ids=lambda m: m.name)
def test_a_metric_that_is_not_defined_has_no_contributions(metric):
    assert metric.contributions(["a", "b"], [EvalExample("", "")] * 2) == {}


def test_an_exact_match_ignores_whitespace_around_a_text():
    scores = ExactMatch("accuracy").score_each([" a ", "b"], [EvalExample("", "a")] * 2)
    assert scores == {"accuracy": [1.0, 0.0]}


def test_a_metric_from_outside_is_scored_beside_its_baseline(translation, capitals):
    metrics = run(translation(f"task.metrics=[{capitals}]")).result()["metrics"]
    assert 0 < metrics["test/capitals"] == metrics["test/baseline/capitals"] < 1
    assert metrics["test/low/capitals"] < metrics["test/capitals"] < metrics["test/high/capitals"]
    assert {"test/exact_match", "test/chrf"} <= set(metrics)


def test_a_task_that_only_measures_its_loss_keeps_it_as_primary_metric(text_file, capitals):
    words = ["task=pretrain", "data=files", f"data.path={text_file}", "tokenizer=byte", *TRAIN]
    words += [f"task.metrics=[{capitals}]", "task.test_examples=4", "task.max_new_tokens=4"]
    folder = run(compose.compose_config([*TINY, *words]))
    assert folder.result()["primary_metric"] == "test/bits_per_byte"
    assert "test/capitals" in folder.result()["metrics"]
    assert "unigram model" in folder.result()["remarks"][0]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("pathlib.Path", r"task\.metrics=\[pathlib\.Path\]: is not a subclass"),
        ("gptexp.tasks.metrics.Blue", "Blue"),
    ],
)
def test_anything_but_a_metric_is_refused(path, message, tiny):
    config = tiny("task=translate", f"task.metrics=[{path}]", "task.max_target_tokens=8")
    with pytest.raises(UserError, match=message):
        make_task(config.task, config.model)
