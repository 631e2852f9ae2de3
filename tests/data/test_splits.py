import random

import numpy as np
import pytest
from conftest import sentence

from gptexp.data import splits

SHARES = {"val": 0.1, "test": 0.1}


def assign(texts, *how):
    return splits.assign(((text, text) for text in texts), *how)


def test_near_duplicates_stay_on_one_side():
    rng = random.Random(0)
    texts = []
    for _ in range(300):
        words = [f"{rng.randrange(10**6)}" for _ in range(60)]
        changed = [*words[:30], "another", *words[31:]]
        texts += [" ".join(words), " ".join(changed), " ".join(words).upper() + "!"]
    sides = assign(texts, "near", SHARES).reshape(300, 3)
    assert (sides == sides[:, :1]).all()
    shares = np.bincount(sides[:, 0], minlength=3) / 300
    assert (abs(shares - [0.8, 0.1, 0.1]) < 0.06).all()


@pytest.mark.parametrize("rule", ["near", "exact"])
def test_what_is_about_one_thing_stays_on_one_side(rule):
    rng = random.Random(0)
    captions = [
        (f"{picture} seen {sentence(rng)}", f"picture {picture}")
        for picture in range(300)
        for _ in range(3)
    ]
    sides = splits.assign(captions, rule, SHARES).reshape(300, 3)
    assert (sides == sides[:, :1]).all()
    assert set(sides[:, 0]) == {0, 1, 2}


def test_sentences_of_one_pattern_are_not_near_duplicates():
    rng = random.Random(0)
    texts = [
        f"The order {i} of {sentence(rng, 2)} was sent to {sentence(rng, 1)} on day {i % 300}."
        for i in range(4000)
    ]
    assert (abs(np.bincount(assign(texts, "near", SHARES)) / 4000 - [0.8, 0.1, 0.1]) < 0.03).all()


def test_a_split_that_comes_out_small_is_said(capsys):
    assign(
        [f"the same text again and again and once more {i // 900}" for i in range(1000)],
        "near",
        SHARES,
    )
    assert "near-duplicates of each other; data.split=exact" in capsys.readouterr().err


def test_scripts_without_spaces_are_compared_by_character():
    text = "東京の天気は今日はとても良いですが明日は雨が降るでしょう。そして来週は雪になるかもしれません。"
    assert len(set(assign([text, text.replace("雨", "風")], "near", SHARES))) == 1


def test_a_text_keeps_its_side_when_others_come():
    rng = random.Random(1)
    texts = [sentence(rng, 40) for _ in range(200)]
    few, many = assign(texts[:100], "exact", SHARES), assign(texts, "exact", SHARES)
    assert (few == many[:100]).all()


def test_tail_holds_out_the_end_by_length():
    sides = assign(["x" * 10] * 50 + ["y" * 90] * 50, "tail", {"val": 0.09, "test": 0.09})
    assert list(np.unique(sides[-5:])) == [2]
    assert (np.diff(sides.astype(int)) >= 0).all()
    assert (sides == 1).sum() == (sides == 2).sum() == 5


def test_what_the_source_says_is_kept_and_only_missing_splits_are_cut():
    said = ["val"] * 10 + [None] * 90
    sides = assign([f"text number {i}" for i in range(100)], "exact", SHARES, said)
    assert (sides[:10] == 1).all()
    assert set(sides[10:]) == {0, 2}


def test_a_handful_of_texts_still_fills_every_split():
    for count in range(3, 9):
        assert set(assign([f"{i} {i} {i} {i}" for i in range(count)], "near", SHARES)) == {0, 1, 2}
