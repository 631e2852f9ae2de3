import random

import pytest
from conftest import text_of

from gptexp.auditing.passages import MIN_PASSAGE, Passage, PassageIndex

RNG = random.Random(0)


def passages(texts: list[str]) -> list[Passage]:
    index = PassageIndex()
    for row, text in enumerate(texts):
        index.add(row, text)
    index.find_candidates()
    for row, text in enumerate(texts):
        index.add_candidate(row, text)
    return list(index.find())


@pytest.mark.parametrize("size", [MIN_PASSAGE, 40, 100])
def test_a_passage_is_found_wherever_it_stands(size):
    texts = [text_of(RNG, 120) for _ in range(60)]
    expected = []
    for row in range(30):
        words, host = texts[row].split(), texts[row + 30].split()
        start = RNG.randrange(len(words) - size + 1)
        place = RNG.randrange(len(host))
        host[place:place] = words[start : start + size]
        texts[row + 30] = " ".join(host).upper()
        expected.append((row + 30, row, size))
    assert sorted(passages(texts)) == expected


def test_shorter_passages_and_most_of_those_of_many_texts_are_not_reported():
    short, licence = text_of(RNG, MIN_PASSAGE - 1), text_of(RNG, 60)
    assert not passages([f"{text_of(RNG, 50)} {short} {text_of(RNG, 50)}" for _ in range(5)])
    assert len(passages([f"{text_of(RNG, 50)} {licence}" for _ in range(90)])) < 45
    assert not passages(["", "one", "one two three"])
    assert not passages([])
