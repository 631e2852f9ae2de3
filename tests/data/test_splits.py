import random

import numpy as np
import pytest
from conftest import sentence

from gptexp.data.account import DataAccount
from gptexp.data.splits import assign_splits
from gptexp.errors import UserError

FRACTIONS = {"val": 0.1, "test": 0.1}


def assign(texts, rule, fractions=FRACTIONS):
    """Assign texts that are their own group keys and have no fixed split."""
    return assign_splits(((text, text, None) for text in texts), rule, fractions)


def test_near_duplicates_stay_in_one_split():
    rng = random.Random(0)
    texts = []
    for _ in range(300):
        words = [f"{rng.randrange(10**6)}" for _ in range(60)]
        changed = [*words[:30], "another", *words[31:]]
        texts += [" ".join(words), " ".join(changed), " ".join(words).upper() + "!"]
    assigned = assign(texts, "near").reshape(300, 3)
    assert (assigned == assigned[:, :1]).all()
    fractions = np.bincount(assigned[:, 0], minlength=3) / 300
    assert (abs(fractions - [0.8, 0.1, 0.1]) < 0.06).all()


@pytest.mark.parametrize("rule", ["near", "exact"])
def test_examples_with_one_group_key_stay_in_one_split(rule):
    rng = random.Random(0)
    captions = [
        (f"{image} seen {sentence(rng)}", f"image {image}", None)
        for image in range(300)
        for _ in range(3)
    ]
    assigned = assign_splits(captions, rule, FRACTIONS).reshape(300, 3)
    assert (assigned == assigned[:, :1]).all()
    assert set(assigned[:, 0]) == {0, 1, 2}


def test_sentences_of_one_pattern_are_not_near_duplicates():
    rng = random.Random(0)
    texts = [
        f"The order {i} of {sentence(rng, 2)} was sent to {sentence(rng, 1)} on day {i % 300}."
        for i in range(4000)
    ]
    assert (abs(np.bincount(assign(texts, "near")) / 4000 - [0.8, 0.1, 0.1]) < 0.03).all()


def test_a_split_that_comes_out_small_is_reported(capsys):
    texts = [f"the same text again and again and once more {i // 990}" for i in range(1000)]
    assign(texts, "near", {"val": 0.1})
    message = capsys.readouterr().err
    assert "the val split has" in message
    assert "near-duplicates of each other; data.split=exact" in message


def test_a_text_keeps_its_split_when_the_corpus_grows():
    rng = random.Random(1)
    texts = [sentence(rng, 40) for _ in range(200)]
    few, many = assign(texts[:100], "exact"), assign(texts, "exact")
    assert (few == many[:100]).all()


def test_tail_holds_out_the_end_by_length():
    assigned = assign(["x" * 10] * 50 + ["y" * 90] * 50, "tail", {"val": 0.09, "test": 0.09})
    assert list(np.unique(assigned[-5:])) == [2]
    assert (np.diff(assigned.astype(int)) >= 0).all()
    assert (assigned == 1).sum() == (assigned == 2).sum() == 5


@pytest.mark.parametrize("rule", ["near", "exact", "tail"])
def test_fixed_splits_are_kept_and_only_missing_splits_are_cut(rule):
    fixed = ["val"] * 10 + ["unseen"] * 10 + [None] * 80
    texts = [f"text number {i} of {i * i} and {i % 7}" for i in range(100)]
    examples = zip(texts, texts, fixed, strict=True)
    assigned = assign_splits(examples, rule, FRACTIONS)
    assert (assigned[:10] == 1).all()
    assert (assigned[10:20] == 3).all()
    assert set(assigned[20:]) == {0, 2}


@pytest.mark.parametrize("rule", ["near", "exact", "tail"])
@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.45])
def test_a_small_corpus_has_an_example_in_every_split_whatever_its_texts_hash_to(rule, fraction):
    fractions = {"val": fraction, "test": fraction}
    for seed in range(120):
        rng = random.Random(seed)
        texts = [sentence(rng, rng.randrange(1, 9)) + f" {seed} {i}" for i in range(3 + seed % 22)]
        assert set(assign(texts, rule, fractions)) == {0, 1, 2}
    for lengths in ([1, 1, 1000], [1000, 1, 1], [1, 1000, 1]):
        assert set(assign([f"{i}" * n for i, n in enumerate(lengths)], rule, fractions)) == {
            0,
            1,
            2,
        }


def test_a_group_of_most_examples_is_trained_on():
    for seed in range(100):
        keys = ["shared"] * 20 + ["one", "two"]
        examples = [(f"{seed} {i} text", f"{seed} {key}", None) for i, key in enumerate(keys)]
        assigned = assign_splits(examples, "exact", FRACTIONS)
        assert list(assigned[:20]) == [0] * 20
        assert set(assigned) == {0, 1, 2}


def test_texts_that_are_all_near_duplicates_are_divided_and_reported(capsys):
    texts = [
        f"The mill of the village packed and sold {i} baskets of pears today" for i in range(9)
    ]
    assert set(assign(texts, "near")) == {0, 1, 2}
    assert "divided as with data.split=exact" in capsys.readouterr().err


@pytest.mark.parametrize("rule", ["near", "exact", "tail"])
def test_fewer_examples_than_splits_are_refused(rule):
    with pytest.raises(UserError, match=r"2 example.* cannot fill the splits train, val, test: "):
        assign(["one", "two"], rule)
    account = DataAccount(examples=3)
    account.leave_out("it is beyond data.limit=2", "a.jsonl, line 3")
    with pytest.raises(UserError, match=r"1 because it is beyond data\.limit=2"):
        assign_splits([("one", "one", None), ("two", "two", None)], rule, FRACTIONS, account)
    assert set(assign(["one", "two"], rule, {"val": 0.05, "test": 0.0})) == {0, 1}
    assert list(assign(["one"], rule, {"val": 0.0, "test": 0.0})) == [0]


@pytest.mark.parametrize("rule", ["near", "exact"])
def test_fewer_sources_than_splits_are_refused(rule):
    with pytest.raises(UserError, match=r"9 examples in 1 group with the same source"):
        assign_splits([(f"text {i}", "one picture", None) for i in range(9)], rule, FRACTIONS)


def test_no_example_gives_no_split():
    assert len(assign([], "near")) == 0
