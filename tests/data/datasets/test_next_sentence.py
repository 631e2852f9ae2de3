import json

import numpy as np
import pytest

from gptexp.data.corpora import Example
from gptexp.data.datasets.next_sentence import NEXT, NOT_NEXT
from gptexp.tasks.prepare import prepare


@pytest.fixture
def prepared(tiny, own_folder):
    """Documents in which every sentence names its document, some long and some short."""
    rng = np.random.default_rng(0)
    texts = [" ".join([f"In w{number} all goes on."] * rng.integers(2, 9)) for number in range(200)]
    (own_folder / "texts.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in texts)
    )
    return prepare(
        tiny(
            "task=nsp",
            "model.context=64",
            "data=files",
            "data.path=texts.jsonl",
            "data.split=exact",
        )
    )


def names(prepared, part) -> set[str]:
    return {
        word for word in prepared.store.tokenizer.decode(part.tolist()).split() if word[0] == "w"
    }


def test_a_negative_comes_from_another_document_of_about_the_same_length(prepared):
    pairs = prepared.task.layout.dataset(prepared.store, "train", 1)
    found = [pairs.pair(index, epoch) for epoch in range(3) for index in range(len(pairs))]
    for first, second, label in found:
        assert (names(prepared, first) == names(prepared, second)) == (label == NEXT)
    assert np.mean([label for *_, label in found]) == pytest.approx(0.5, abs=0.07)
    for measure in (len, max):  # neither how long nor which tokens
        by_label = [
            [measure(second) for _, second, label in found if label == which]
            for which in (NEXT, NOT_NEXT)
        ]
        assert np.mean(by_label[0]) == pytest.approx(np.mean(by_label[1]), rel=0.06)


def test_pairs_change_with_the_epoch_and_with_nothing_else(prepared):
    pairs = prepared.task.layout.dataset(prepared.store, "train", 1)
    some = np.arange(20)
    one, again, later = (pairs.batch(some, epoch, some) for epoch in (0, 0, 1))
    assert one.tokens.equal(again.tokens)
    assert not one.labels.equal(later.labels)
    assert one.counts.labels == 20


def test_what_cannot_be_cut_in_two_is_left_out(prepared):
    example = Example({"text": "Short. Text."})
    encoded = prepared.task.layout.encode([example], prepared.store.tokenizer)
    assert encoded == [None]
    assert "two sentences of 20 characters" in example.left_out
