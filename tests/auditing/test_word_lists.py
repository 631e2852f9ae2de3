from pathlib import Path

import pytest

from gptexp.auditing.groups import GroupCounter
from gptexp.auditing.word_lists import Tokens, WordMatcher, load_groups, load_terms
from gptexp.errors import UserError


def terms_in(text: str, *terms: str) -> list[str]:
    tokens = Tokens(text)
    return [
        " ".join(token.text for token in tokens.tokens[occurrence.first : occurrence.last + 1])
        for occurrence in WordMatcher({"list": terms}).find(tokens)
    ]


@pytest.mark.parametrize(
    ("term", "text", "expected"),
    [
        ("cat", "A cat, a CAT, cats, concat", ["cat", "cat"]),
        ("cat*", "A cat, cats, concat", ["cat", "cats"]),
        ("C++", "c or C++", ["c + +"]),
        ("e-mail", "E-Mail me", ["e - mail"]),
        ("neural network*", "neural net, Neural Networks", ["neural networks"]),
        ("naïve", "nai\u0308ve", ["naïve"]),
        ("straße", "STRASSE", ["strasse"]),
        ("男", "男人带着狗", ["男"]),
        ("no", "no, not", ["no"]),
    ],
)
def test_a_term_matches_whole_words_in_any_case(term, text, expected):
    assert terms_in(text, term) == expected


def test_of_terms_at_one_place_the_longest_counts():
    assert terms_in("the neural network", "neural", "neural network") == ["neural network"]


def test_lists_of_terms_are_lines_or_yaml(tmp_path):
    (tmp_path / "bad.txt").write_text("\ufeff# mine\ncat\n\n two words \n")
    assert load_terms(tmp_path / "bad.txt") == {"bad": ["cat", "two words"]}
    (tmp_path / "lists.yaml").write_text("short: [no, on]\nlong: [12:30]")
    assert load_terms(tmp_path / "lists.yaml") == {"short": ["no", "on"], "long": ["12:30"]}
    (tmp_path / "one.yml").write_text("- cat\n- dog")
    assert load_terms(tmp_path / "one.yml") == {"one": ["cat", "dog"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1", "not YAML"),
        ("cat", "names with lists of words are needed, such as insults: [word"),
        ("a: cat", "'a': a list of words is needed"),
        ("a: []", "'a': a list of words is needed"),
        ("a: [{b: c}]", "'a': a list of words is needed"),
    ],
)
def test_a_wrong_file_of_terms_is_refused(content, message, tmp_path):
    (tmp_path / "terms.yaml").write_text(content)
    with pytest.raises(UserError, match=r"terms\.yaml") as error:
        load_terms(tmp_path / "terms.yaml")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[a]", "such as gender: {female: [she"),
        ("age: {old: [old]}", "a set needs two groups or more"),
        ("age: [old, young]", "a set needs two groups or more"),
        ("age: {old: [senior], young: [Senior]}", "'Senior' is a word of 'old' and of 'young'"),
    ],
)
def test_a_wrong_file_of_groups_is_refused(content, message, tmp_path):
    (tmp_path / "groups.yaml").write_text(content)
    with pytest.raises(UserError) as error:
        load_groups(tmp_path / "groups.yaml")
    assert message in str(error.value)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        load_terms(Path("nothing.txt"))
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(UserError, match="not UTF-8 text"):
        load_terms(tmp_path / "binary.txt")


def test_groups_are_counted_by_example_and_language():
    counter = GroupCounter(load_groups())
    counter.add(Tokens("She met her sister, and he left."), 0, "train", "en", [])
    counter.add(Tokens("Er ist ein Mann. Die Frau geht."), 1, "test", "de", [])
    counter.add(Tokens("La mujer die"), 2, "train", "es", [])
    counter.add(Tokens("Die Frau"), 2, "train", "de", [])  # another field of the same example
    female, male = (counter.counts["gender"][group] for group in ("female", "male"))
    assert (dict(female.examples), female.mentions) == ({"train": 2, "test": 1}, 6)
    assert (dict(male.examples), male.mentions) == ({"train": 1, "test": 1}, 2)


def test_words_near_one_group_are_told_from_those_near_the_others(tmp_path):
    (tmp_path / "g.yaml").write_text("size: {small: [mouse], big: [elephant]}")
    counter = GroupCounter(load_groups(tmp_path / "g.yaml"))
    matcher = WordMatcher({"waters": ["river", "sea"]})
    for _ in range(40):
        for text in ("the mouse eats cheese indoors", "the elephant eats leaves at the river"):
            counter.add(Tokens(text), 0, "train", "en", matcher.find(Tokens(text)))
    assert [near.word for near in counter.near_words("size", "small")] == ["cheese", "indoors"]
    assert [near.word for near in counter.near_words("size", "big")] == ["leaves", "river"]
    assert counter.counts["size"]["big"].near_lists == {"waters": 40}
    assert not counter.counts["size"]["small"].near_lists
