"""Runs on a mixture of sources: like those on one source, and resumed as if never interrupted."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, TRAIN, likeness, sentence, text_of

from gptexp.config import compose
from gptexp.data.loader import DataModule
from gptexp.errors import UserError
from gptexp.run import run
from gptexp.tasks.prepare import prepare
from gptexp.training.module import TrainModule

PRETRAIN = [
    *(*TINY, *TRAIN, "task=pretrain", "task.samples=1", "model.layers=1"),
    "data.split=exact",
]


@pytest.fixture
def two_texts(own_folder):
    """Files of sentences and of made-up words, as sources of a mixture."""
    rng = random.Random(2)
    (own_folder / "plain.txt").write_text("\n".join(sentence(rng) for _ in range(200)))
    (own_folder / "odd.txt").write_text("\n".join(text_of(rng, 12) for _ in range(100)))
    return [
        "data=mixture",
        "data.sources.plain.kind=files",
        "data.sources.plain.path=plain.txt",
        "data.sources.odd.kind=files",
        "data.sources.odd.path=odd.txt",
        "data.weights={plain: 3, odd: 1}",
    ]


def compose_run(*words):
    return compose.compose_config([*PRETRAIN, *words])


def open_batches(*words):
    config = compose_run(*words)
    data = prepare(config)
    return DataModule(data.task.layout, data.store, config.trainer, config.seed)


@pytest.mark.usefixtures("two_texts")
@pytest.mark.parametrize("packing", ["stream", "best_fit"])
def test_a_mixture_of_one_source_has_the_batches_of_that_source(packing):
    words = ["tokenizer=byte", f"task.packing={packing}", "task.document_mask=true"]
    source = ["data.sources.a.kind=files", "data.sources.a.path=plain.txt", "data.weights.a=2"]
    alone = open_batches("data=files", "data.path=plain.txt", *words)
    mixed = open_batches("data=mixture", *source, *words)
    steps = range(3 * len(alone.sequences) // 8)  # into the third epoch
    pairs = [(alone.batches()[step], mixed.batches()[step]) for step in steps]
    pairs += zip(alone.validation_batches(5), mixed.validation_batches(5), strict=True)
    for one, other in pairs:
        for name, value in vars(one).items():
            if isinstance(value, torch.Tensor) and name != "examples":
                assert torch.equal(value, getattr(other, name))
        assert one.counts == other.counts


def test_interrupted_it_ends_as_if_never_interrupted(two_texts, monkeypatch):
    words = [*two_texts, "data.schedule=[{start: 0.6, weights: {odd: 1}}]", "tokenizer=byte"]
    uninterrupted = run(compose_run(*words, "outputs=uninterrupted"))
    plain = TrainModule.training_step

    def fail_at_step_6(self, batch, number):
        if self.step == 6:
            raise ValueError("the power is out")
        plain(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainModule, "training_step", fail_at_step_6)
        with pytest.raises(ValueError, match="power"):
            run(compose_run(*words, "outputs=interrupted"))
    resumed = run(compose_run(*words, "outputs=interrupted"))
    assert likeness(resumed) == likeness(uninterrupted)
    for row in resumed.metrics():
        if "val/loss" in row:
            mean = 0.75 * row["val/plain/loss"] + 0.25 * row["val/odd/loss"]
            assert row["val/loss"] == pytest.approx(mean, rel=1e-12)
    metrics = resumed.result()["metrics"]
    for name in ("loss", "bits_per_byte", "baseline/loss"):
        mean = 0.75 * metrics[f"test/plain/{name}"] + 0.25 * metrics[f"test/odd/{name}"]
        assert metrics[f"test/{name}"] == pytest.approx(mean, rel=1e-12)


def test_all_sources_have_one_tokenizer(two_texts):
    config = compose_run(*two_texts, "tokenizer.vocab_size=300")
    store = prepare(config).store
    fingerprints = {source.tokenizer.fingerprint() for source in store.sources.values()}
    assert fingerprints == {store.tokenizer.fingerprint()}
    for mine, other in (("plain", "odd"), ("odd", "plain")):  # it has learned from both
        words = ["data=files", f"data.path={other}.txt", "tokenizer.vocab_size=300"]
        of_other, text = (
            prepare(compose_run(*words)).store.tokenizer,
            Path(f"{mine}.txt").read_text(),
        )
        assert len(store.tokenizer.encode(text)) < len(of_other.encode(text))
    again = prepare(config).store
    assert again.fingerprint == store.fingerprint
    assert not again.is_new
    folder = store.sources["plain"].folder
    stored = [f"data.sources.plain={{kind: tokens, path: '{folder}'}}", *two_texts[3:]]
    tokens = prepare(compose_run("data=mixture", *stored, "tokenizer.vocab_size=500")).store
    assert tokens.tokenizer.fingerprint() == store.tokenizer.fingerprint()
    assert tokens.fingerprint == store.fingerprint

    other = prepare(compose_run("data=files", "data.path=odd.txt", "tokenizer=byte")).store
    of_bytes = f"data.sources.odd={{kind: tokens, path: '{other.folder}'}}"
    mixed = [stored[0], of_bytes, two_texts[-1]]
    with pytest.raises(UserError, match=r"data\.sources\.odd\.path=.* has another tokenizer"):
        prepare(compose_run("data=mixture", *mixed))


def test_other_weights_are_other_data_whose_sources_compare(two_texts):
    def store(*words):
        return prepare(compose_run(*two_texts[:-1], "tokenizer=byte", *words)).store

    first, same = (
        store("data.weights={plain: 3, odd: 1}"),
        store("data.weights={plain: 0.75, odd: 0.25}"),
    )
    other = store("data.weights={plain: 1, odd: 1}")
    assert first.content_fingerprint == same.content_fingerprint != other.content_fingerprint
    for split in ("val", "test"):
        assert first.meta["files"][f"{split}.jsonl"] != other.meta["files"][f"{split}.jsonl"]
        for source in ("plain", "odd"):
            file = f"{split}/{source}.jsonl"
            assert first.meta["files"][file] == other.meta["files"][file]


def test_no_source_trains_on_a_text_that_another_holds_out(own_folder):
    rng = random.Random(5)
    shared, own = ([{"text": sentence(rng, 12)} for _ in range(60)] for _ in range(2))
    for name, rows in (("one", shared + own), ("two", shared[::-1])):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (own_folder / f"{name}.jsonl").write_text(lines)
    words = [
        "data=mixture",
        "tokenizer=byte",
        "data.weights={one: 1, two: 1}",
        "data.sources.one={kind: files, path: one.jsonl, split: exact, test_fraction: 0.2}",
        "data.sources.two={kind: files, path: two.jsonl, split: tail, test_fraction: 0.3}",
    ]
    sources = prepare(compose_run(*words)).store.sources

    def texts(name, *splits):
        store = sources[name]
        tokens = [store.tokens(split)[0 : len(store.tokens(split))] for split in splits]
        text = store.tokenizer.backend.decode(np.concatenate(tokens), skip_special_tokens=False)
        return set(text.split(store.tokenizer.eos_token)) - {""}

    for mine, other in (("one", "two"), ("two", "one")):
        assert not texts(mine, "train") & texts(other, "val", "test")
        [(reason, tally)] = sources[mine].account.left_out.items()
        assert reason == "another source of the mixture holds the same text out"
        assert tally.count > 3


def test_a_weight_that_rounds_to_0_is_refused_and_a_phase_that_never_begins_gets_a_line(
    two_texts, capsys
):
    with pytest.raises(UserError, match=r"or raise its weight, which counts to 1/10,000 of all$"):
        prepare(compose_run(*two_texts[:-1], "data.weights={plain: 3, odd: 0.00001}"))
    late = "data.schedule=[{start: 9999, weights: {odd: 1}}]"
    prepare(compose_run(*two_texts, late, "tokenizer=byte"))
    assert "the weights from sequence 9,999 on never hold" in capsys.readouterr().err
