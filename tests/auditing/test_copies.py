"""Copies are found among texts of any length, and texts that are merely alike are not copies."""

import random

import numpy as np
import pytest
from conftest import WORDS, text_of

from gptexp.auditing.copies import TextTable, find_copies, find_copies_across


def near(texts: list[str]) -> tuple[np.ndarray, dict[int, dict[int, float]]]:
    table = TextTable()
    for text in texts:
        table.add(text)
    table.find_candidates()
    for row, text in enumerate(texts):
        table.add_candidate(row, text)
    return table.classes(), table.near_duplicates()


CHANGES = {
    "signs": lambda text: text.replace(" ", ", ") + "!",
    "one word in ten": lambda text: " ".join(
        "other" if index % 10 == 3 else word for index, word in enumerate(text.split())
    ),
    "words missing": lambda text: " ".join(
        word for index, word in enumerate(text.split()) if index % 10 != 3
    ),
    "the end missing": lambda text: text[: len(text) * 9 // 10],
}


@pytest.mark.parametrize("size", [10, 40, 300])
@pytest.mark.parametrize("change", CHANGES)
def test_every_changed_copy_is_found_and_nothing_else(size, change):
    rng = random.Random(size)
    texts = [text_of(rng, size) for _ in range(60)]
    _, pairs = near([*texts, *(CHANGES[change](text) for text in texts)])
    assert {row: list(similar) for row, similar in pairs.items()} == {
        row: [(row + 60) % 120] for row in range(120)
    }


def test_short_texts_that_differ_in_one_word_are_not_copies():
    rng = random.Random(0)
    texts = [" ".join(rng.sample(WORDS, 5)) for _ in range(200)]
    assert not near(texts)[1]
    assert not near(["a man in a blue shirt", "a man in a red shirt"])[1]


def test_short_texts_with_other_numbers_are_not_copies():
    template = "the sensor in the hall reads {} degrees on {} of May"
    assert not near([template.format(number, 20) for number in range(30)])[1]
    assert near([template.format(7, 20), template.format(7, 20).replace("hall", "yard")])[1]


def test_many_texts_of_one_template_are_copies_of_a_few():
    rng = random.Random(2)
    start = text_of(rng, 40)
    classes, pairs = near([f"{start} {text_of(rng, 2)}" for _ in range(200)])
    assert len(pairs) == 200
    assert sum(map(len, pairs.values())) < 200 * 200
    assert len(find_copies(classes, pairs, range(200))) > 180


def test_a_template_hides_no_copy():
    """All texts share half of their words, which makes them candidates of each other, but no copies."""
    rng = random.Random(3)
    start = text_of(rng, 30)
    texts = [f"{start} {text_of(rng, 20)}" for _ in range(400)]
    copies = [text.replace(text.split()[40], "other") for text in texts[:40]]
    _, pairs = near([*texts, *copies])
    assert {row: list(pairs[row]) for row in range(40)} == {row: [row + 400] for row in range(40)}
    assert len(pairs) == 80


def test_one_text_or_none_has_no_copies():
    assert not near([])[1]
    assert not near(["one text"])[1]


def test_a_crowded_bucket_hides_no_copy():
    rng = random.Random(1)
    start = text_of(rng, 12)
    texts = [f"{start} {text_of(rng, 14)}" for _ in range(300)]
    copies = [f"{text} more" for text in texts[:20]]
    _, pairs = near([*texts, *copies])
    assert all(row + 300 in pairs[row] for row in range(20))


def test_the_copy_that_is_left_out_is_the_later_one_and_never_one_of_the_test_split():
    classes, pairs = near(
        ["One  two three four", "a b c d e f g h i", "one two three four", "a b c d e f g h j"]
    )
    assert [copy[:2] for copy in find_copies(classes, pairs, range(4))] == [(2, 0), (3, 1)]
    copies = find_copies(classes, pairs, [3, 2, 1, 0])
    assert [(copy.row, copy.kept, copy.is_equal) for copy in copies] == [
        (1, 3, False),
        (0, 2, True),
    ]


def test_a_chain_of_similar_texts_is_not_one_group():
    words = [str(number) for number in range(60)]
    texts = [" ".join(words[start : start + 30]) for start in (0, 5, 10, 15, 20, 25, 30)]
    classes, pairs = near(texts)
    copies = find_copies(classes, pairs, range(7))
    assert [copy.row for copy in copies] == [1, 3, 5]
    assert all(pairs[copy.row][copy.kept] == copy.similarity for copy in copies)


def test_an_input_may_repeat_within_a_split_but_not_across():
    classes, pairs = near(["one two three four"] * 3)
    ranks = np.array([1, 0, 1])
    assert [copy[:2] for copy in find_copies_across(classes, pairs, ranks)] == [(0, 1), (2, 1)]
    assert not find_copies_across(classes, pairs, np.zeros(3, int))


def test_texts_without_words_do_no_harm():
    classes, pairs = near(["", " ", "!", "?", "one"])
    assert classes.tolist() == [0, 0, 2, 3, 4]
    assert set(pairs) <= {0, 2, 3}
