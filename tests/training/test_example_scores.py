from dataclasses import dataclass

import numpy as np
import pytest
from conftest import TRAIN

from gptexp.run import run
from gptexp.tasks.layout import EvalExample, PromptCompletion
from gptexp.training.example_groups import example_groups, example_ids

LAYOUT = PromptCompletion(context=64, max_target_tokens=16)
WORDS = "a long sentence of many words that two examples share but for its end, which is".split()  # noqa: SIM905


@dataclass
class Picture:
    pixels: np.ndarray

    def __str__(self):
        return "(image)"


def test_the_id_of_an_example_is_the_same_beside_other_examples():
    examples = [EvalExample("one", "eins"), EvalExample("two", "zwei"), EvalExample("one", "eins")]
    ids = example_ids(examples)
    assert len(set(ids)) == 3
    assert example_ids(examples[1:]) == ids[1:2] + ids[:1]
    assert all(len(name) == 12 and int(name, 16) >= 0 for name in ids)
    pictures = [EvalExample(Picture(np.full(4, value)), "a dot") for value in (1, 2)]
    assert len(set(example_ids(pictures))) == 2


def test_examples_with_equal_inputs_and_near_duplicates_are_one_group():
    text = " ".join(WORDS)
    texts = [text, "something else", f"{text} x", "another"]
    examples = [EvalExample(text, "reference") for text in texts] + [EvalExample("another", "more")]
    ids = example_ids(examples)
    groups = example_groups(examples, ids, LAYOUT)
    assert groups == [ids[0], ids[1], ids[0], ids[3], ids[3]]


def test_equal_captions_do_not_make_one_group_of_two_pictures(monkeypatch):
    pictures = [Picture(np.full(4, value)) for value in (1, 2, 1)]
    captions = ["a red dot", "a red dot", "one dot"]
    examples = [EvalExample(*pair) for pair in zip(pictures, captions, strict=True)]
    monkeypatch.setattr(LAYOUT, "texts", lambda _: [], raising=False)
    ids = example_ids(examples)
    assert example_groups(examples, ids, LAYOUT) == [ids[0], ids[1], ids[0]]
    assert example_groups([], [], LAYOUT) == []


def test_a_run_keeps_the_score_of_each_example_and_the_loss_of_each_batch(translation):
    words = ["data.test_fraction=0.3", "data.val_fraction=0.2", "trainer.max_steps=1"]
    runs = [run(translation(*TRAIN, *words, f"seed={seed}")) for seed in (1, 2)]
    for folder in runs:
        metrics = folder.result()["metrics"]
        examples = [row for row in folder.scores("test") if row["unit"] == "example"]
        batches = [row for row in folder.scores("test") if row["unit"] == "batch"]
        assert len(examples) + len(batches) == len(folder.scores())
        assert examples[0].keys() >= {"id", "group", "input", "reference", "output", "scores"}
        assert examples[0]["scores"].keys() == {"exact_match", "bleu", "chrf"}
        for name, precision in (("exact_match", 1e-9), ("chrf", 0.1)):
            values = [row["scores"][name] for row in examples]
            mean = sum(values) / len(values)
            assert metrics[f"test/{name}"] == pytest.approx(mean, rel=precision)
        targets = [row["targets"] for row in batches]
        losses = [row["scores"]["loss"] for row in batches]
        assert metrics["test/loss"] == pytest.approx(np.dot(targets, losses) / sum(targets))
    first, second = ([row["id"] for row in folder.scores()] for folder in runs)
    assert first == second
