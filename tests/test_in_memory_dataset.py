"""Data sets in memory: how items are read, and which settings are chosen for them."""

from pathlib import Path

import pytest
import torch

from gptexp.data.corpora import open_corpus
from gptexp.errors import UserError
from gptexp.in_memory_dataset import compose_for_dataset

SMALL = [
    "model=nano",
    "model.context=160",
    "tokenizer=byte",
    "init=scratch",
    "logger=none",
    "task.samples=0",
]
ANSWER = {"role": "assistant", "content": "two"}
SHAREGPT_ANSWER = {"from": "gpt", "value": "two"}
PAIRS = [(f"word {number}", f"number {number}") for number in range(24)]


@pytest.mark.parametrize(
    ("data", "task"),
    [
        (["a text of some words"] * 3, "pretrain"),
        ([("one", "two")], "summarize"),
        ([{"source": "one", "target": "two"}], "summarize"),
        ([{"source": "one two", "terms": "two"}], "extract"),
        ([{"messages": [{"role": "user", "content": "one"}, ANSWER]}], "chat"),
        ([{"conversations": [{"from": "human", "value": "one"}, SHAREGPT_ANSWER]}], "chat"),
    ],
)
def test_the_task_follows_from_the_items(data, task):
    config = compose_for_dataset(data, SMALL)
    assert config.task.kind == task
    assert (config.data.val_fraction, config.data.test_fraction) == (0, 0)


def test_pairs_of_answers_are_for_prefer_which_starts_from_weights():
    config = compose_for_dataset([{"prompt": "a", "chosen": "b", "rejected": "c"}], ())
    assert (config.task.kind, config.init) == ("prefer", "base")


def test_steps_and_batch_follow_from_the_number_of_sequences(capsys):
    config = compose_for_dataset(PAIRS, SMALL)
    assert (config.trainer.max_steps, config.trainer.global_batch_size) == (100, 16)
    assert "24 examples make 24 training sequences" in capsys.readouterr().err
    config = compose_for_dataset(PAIRS[:5], SMALL)
    assert (config.trainer.max_steps, config.trainer.global_batch_size) == (100, 5)
    config = compose_for_dataset(PAIRS[:5], [*SMALL, "trainer.devices=2"])
    assert config.trainer.global_batch_size == 4  # a multiple of the devices
    many = [(f"word {number}", f"number {number}") for number in range(320)]
    config = compose_for_dataset(many, SMALL)
    assert config.data.val_fraction == 0.05
    assert 270 < config.trainer.max_steps < 400  # 20 passes over 90 % of them
    config = compose_for_dataset(many * 10, SMALL)
    assert config.trainer.max_steps == 300  # no more than the task has by default


def test_short_texts_train_on_few_windows():
    config = compose_for_dataset([f"Text {number}." for number in range(24)], SMALL)
    assert (config.trainer.max_steps, config.trainer.global_batch_size) == (100, 8)


def test_overrides_come_first():
    chosen = ["trainer.max_steps=7", "trainer.global_batch_size=3", "data.val_fraction=0.2"]
    config = compose_for_dataset(PAIRS, [*SMALL, *chosen, "task=translate"])
    assert (config.trainer.max_steps, config.trainer.global_batch_size) == (7, 3)
    assert (config.data.val_fraction, config.task.kind) == (0.2, "translate")
    config = compose_for_dataset(PAIRS[:5], [*SMALL, "trainer.max_steps=7"])
    assert (config.trainer.max_steps, config.trainer.global_batch_size) == (7, 5)


def test_fields_of_other_names_are_named_in_overrides():
    data = [{"article": "one two", "highlights": "two", "id": object()}] * 4
    with pytest.raises(UserError, match=r"item 0 of the data set: no field 'source'.*article"):
        compose_for_dataset(data, SMALL)
    names = ["data.fields.source=article", "data.fields.target=highlights"]
    config = compose_for_dataset(data, [*SMALL, *names])
    assert config.task.kind == "summarize"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("corpus.txt", "one text"),
        ({"train": ["a", "b"]}, r"dataset\['train'\]"),
        ([], "no task.*give texts"),
        ([torch.tensor([1, 2])], "give texts"),
        (["a text", ("a", "pair")], "pretrain and summarize.*give texts"),
        ([("a", "pair"), {"source": "a"}], "item 1 of the data set: no field 'target'"),
    ],
)
def test_data_that_fits_no_task_is_refused(data, message):
    with pytest.raises(UserError, match=message):
        compose_for_dataset(data, SMALL)


@pytest.mark.parametrize("override", ["data=pydocs", "data.path=pairs.jsonl"])
def test_a_data_set_takes_the_place_of_a_data_source(override):
    with pytest.raises(UserError, match=f"{override}: the data set takes its place"):
        compose_for_dataset(PAIRS, [*SMALL, override])


def test_a_template_makes_the_source_of_items():
    rows = [{"a": f"one {number}", "b": "two", "target": "three"} for number in range(24)]
    config = compose_for_dataset(rows, ["task=summarize", "data.template='{a}, {b}'", *SMALL])
    data = open_corpus(config.data, ("source", "target"), Path("cache"))
    assert next(iter(data)).fields == {"source": "one 0, two", "target": "three"}
