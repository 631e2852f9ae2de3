import random

import pytest
from conftest import text_of

from gptexp.auditing.contamination import MIN_SHORT_WORDS, NgramIndex

RNG = random.Random(0)
HELD_OUT = [text_of(RNG, size) for size in (8, 20, 100, 400)]
OTHERS = [text_of(RNG, 200) for _ in range(20)]


def index_of(texts: list[str], min_words: int = 8) -> NgramIndex:
    index = NgramIndex()
    for number, text in enumerate(texts):
        index.add(number, text, min_words)
    return index


@pytest.mark.parametrize("item", range(4))
def test_a_held_out_text_inside_of_another_is_found(item):
    training = f"{OTHERS[0]} {HELD_OUT[item].upper()}. {OTHERS[1]}"
    [leak] = index_of(HELD_OUT).find(training)
    assert (leak.item, leak.share, leak.run) == (item, 1.0, len(HELD_OUT[item].split()))


def test_a_long_passage_is_found_and_a_short_one_is_not():
    words = HELD_OUT[3].split()
    index = index_of(HELD_OUT)
    [leak] = index.find(f"{OTHERS[0]} {' '.join(words[100:140])} {OTHERS[1]}")
    assert leak.item == 3
    assert leak.run == 40
    assert not index.find(f"{OTHERS[0]} {' '.join(words[100:120])} {OTHERS[1]}")


def test_other_texts_are_not_found():
    index = index_of([*HELD_OUT, "", "one two"])
    assert not any(index.find(text) for text in OTHERS)


def test_a_phrase_of_many_items_says_nothing():
    licence = " ".join(f"word{number}" for number in range(40))
    index = index_of([f"{licence} {text}" for text in (text_of(RNG, 20) for _ in range(60))])
    assert not index.find(f"{licence} {OTHERS[0]}")


def test_a_short_question_of_a_benchmark_is_found_as_a_whole():
    question = "What is the capital of France?"
    index = index_of([question, "too short here"], MIN_SHORT_WORDS)
    [leak] = index.find(f"He asked what is the capital of France and left. {OTHERS[0]}")
    assert (leak.item, leak.share) == (0, 1.0)
    assert not index.find(f"The capital of France is nice. {OTHERS[0]}")
    assert not index_of([question]).find(question)
