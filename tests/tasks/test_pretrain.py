"""Samples of pretraining: pieces of held-out documents, and the text that follows each."""

import json
import random
from string import ascii_letters

import numpy as np
import pytest
import torch

from gptexp.config.schema import ByteConfig
from gptexp.data.tokenizers import build
from gptexp.errors import UserError
from gptexp.loss import LossCounts, LossSums
from gptexp.tasks.prepare import prepare
from gptexp.tasks.pretrain import TextStream, find_piece

BYTES = build(ByteConfig(), [])
EOS = BYTES.eos


class Store:
    """The tokens of a split of documents."""

    tokenizer = BYTES

    def __init__(self, documents):
        self.stream = np.array(
            [token for text in documents for token in [*BYTES.encode(text), EOS]]
        )

    def tokens(self, split):
        return self.stream


@pytest.mark.parametrize("seed", range(8))
def test_samples_differ_and_no_reference_goes_on_into_the_next_document(seed):
    rng = random.Random(seed)
    sizes = [rng.choice([1, 5, 30, 90, 400]) for _ in range(rng.choice([1, 4, 60]))]
    documents = [f"<{''.join(rng.choices(ascii_letters, k=size))}>" for size in sizes]
    layout = TextStream(context=64, max_new_tokens=24)
    samples = list(layout.eval_examples(Store(documents), "test", 8))
    assert 1 <= len(samples) <= 8
    assert len({(sample.input, sample.reference) for sample in samples}) == len(samples)
    for sample in samples:
        assert sample.input
        assert sample.reference
        assert any(sample.input + sample.reference in document for document in documents)
    if len(documents) == 60:
        assert len(samples) == 8


def test_a_text_that_is_hardly_longer_than_a_prompt_has_samples_that_differ():
    layout = TextStream(context=64, max_new_tokens=24)
    samples = list(
        layout.eval_examples(Store(["abcdefghijklmnopqrstuvwxyz0123456789" * 2]), "test", 8)
    )
    assert len({sample.input for sample in samples}) == 8


def test_a_piece_without_an_end_of_text_in_it_is_where_it_was_asked_for():
    tokens = np.array([1, 2, 3, EOS, *range(4, 40)])
    assert find_piece(tokens, 4, 8, 4, EOS) == (4, 12, 16)
    assert find_piece(tokens, 1, 8, 4, EOS) == (4, 12, 16)
    assert find_piece(tokens, 0, 8, 4, EOS) == (0, 1, 3)
    assert find_piece(tokens, 38, 8, 4, EOS) is None


RECORDS = [
    {"text": "A river falls over stones.", "answer": "river"},
    {"text": "A document that no answer follows."},
    {"text": "A bird", "answer": ""},
]


def test_an_answer_follows_its_text_behind_a_separator(tiny, own_folder):
    (own_folder / "val.jsonl").write_text('{"text": "A road without an answer."}\n' * 9)
    (own_folder / "train.jsonl").write_text("\n".join(map(json.dumps, RECORDS)))
    prepared = prepare(
        tiny(
            "task=pretrain",
            "data=files",
            "data.path=train.jsonl",
            "data.val_path=val.jsonl",
            "data.test_fraction=0",
            "data.split=exact",
            "task.answers=true",
            "task.packing=best_fit",
            "tokenizer=byte",
        )
    )
    store, tokens = prepared.store, prepared.store.tokens("train")[:].tolist()
    ends = [i + 1 for i, token in enumerate(tokens) if token == EOS]
    documents = [tokens[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    river, document, bird = documents
    assert river == [*BYTES.encode(RECORDS[0]["text"]), BYTES.sep, *BYTES.encode("river"), EOS]
    assert document == [*BYTES.encode(RECORDS[1]["text"]), EOS]
    assert bird == [*BYTES.encode("A bird"), EOS]
    texts = [record["text"] + record.get("answer", "") for record in RECORDS]
    assert store.meta["splits"]["train"]["bytes"] == len("".join(texts))
    assert "  task        1 texts have an answer, for example 'river'" in store.account.table()


def test_a_text_with_an_answer_is_cut_to_the_context(tiny, own_folder, capsys):
    rows = [{"text": f"{number} " + "long " * 20, "answer": "short"} for number in range(40)]
    (own_folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("task=pretrain", "data=files", "data.path=rows.jsonl", "data.split=exact")
    options = ("task.answers=true", "task.packing=best_fit", "tokenizer=byte")
    prepared = prepare(tiny(*words, *options, "model.context=32"))
    assert "model.context=32 leaves 26 tokens beside its answer" in capsys.readouterr().err
    sizes = prepared.store.meta["splits"]["train"]
    assert sizes["bytes"] == sizes["sequences"] * (26 + len("short"))
    windows = prepared.task.layout.dataset(prepared.store, "train", 1)
    batch = windows.batch(np.arange(3), 0, np.arange(3))
    for row, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        assert BYTES.decode([*row[:26], *row[27:], targets[-1]]).endswith("short")
        assert row[26] == BYTES.sep
        assert targets[-1] == EOS
    with pytest.raises(UserError, match=r"no record has the field 'answer'\. Name it"):
        prepare(tiny(*words, *options, "data.fields.answer=reply"))
    (own_folder / "text.txt").write_text("a text")
    with pytest.raises(UserError, match="this task needs text and answer"):
        prepare(tiny(*words[:2], "data.path=text.txt", *options))


def test_metrics_of_a_part_of_a_split_are_those_of_the_split(tiny, text_file):
    words = ("task=pretrain", "data=files", f"data.path={text_file}", "tokenizer=byte")
    data = prepare(tiny(*words))
    targets = len(data.store.tokens("test")) - 1

    def metrics(share):
        losses = LossSums(torch.tensor(3.0 * targets * share), torch.zeros(()), torch.zeros(()))
        counts = LossCounts(targets=targets * share)
        return data.task.loss_metrics(data.store, "test", losses, counts)

    assert metrics(0.25) == pytest.approx(metrics(1.0))
    assert "baseline/bits_per_byte" in metrics(1.0)
