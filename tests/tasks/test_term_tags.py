import unicodedata

import pytest

from gptexp.config import schema
from gptexp.data import tokenizers
from gptexp.data.account import DataAccount
from gptexp.data.corpora import Example
from gptexp.data.token_store import Cut
from gptexp.tasks.term_tags import TermTags, find_occurrences

TEXT = "On day 3 the miller of Köln packed the big pears."


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.build(schema.ByteConfig(), [])


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ("MILLER", "in other capitals"),
        (unicodedata.normalize("NFD", "Köln"), "in another Unicode normal form"),
        ("big  pears", "with other white space"),
        (unicodedata.normalize("NFD", "KÖLN"), "in another spelling of the same letters"),
        ("miller, pears", "separated by ';'"),
        ("miller | pears", "separated by ';'"),
        ("miller\nKöln", "separated by ';'"),
        ("apples", "absent"),
    ],
)
def test_an_example_without_its_terms_is_left_out_with_the_reason(tokenizer, terms, reason):
    example = Example({"source": TEXT, "terms": terms}, where="x.csv, line 2")
    assert TermTags(100).encode([example], tokenizer) == [None]
    assert "no term of it is in its text" in example.left_out
    assert reason in example.left_out
    assert example.where == f"'{' '.join(terms.split())}' in x.csv, line 2"
    both = Example({"source": TEXT, "terms": f"day; {terms}"})
    [encoded] = TermTags(100).encode([both], tokenizer)
    assert any(reason in note and instance == terms for note, instance in encoded.notes)


@pytest.mark.parametrize("terms", ["mill", ";"])
def test_data_without_a_term_that_is_a_whole_word_are_refused(tokenizer, terms):
    layout, account = TermTags(100), DataAccount()
    example = Example({"source": TEXT, "terms": terms})
    [encoded] = layout.encode([example], tokenizer)
    account.add(example, encoded, "train", layout.fields, layout.learned_fields, tokenizer, {})
    assert "no term is in its text, so nothing could be learned" in layout.objection(account)
    assert ("within a longer word, for example 'mill'" in layout.objection(account)) == (
        terms == "mill"
    )


@pytest.mark.parametrize(
    ("source", "terms", "occurrences"),
    [
        ("東京の塔は高い。", ["東京", "塔"], ["東京", "塔"]),
        ("Pythonは東京2020で", ["Python", "東京", "2020"], ["Python", "東京", "2020"]),
        ("กรุงเทพเป็นเมือง", ["เมือง"], ["เมือง"]),
        ("wordplay, word-play", ["word"], ["word"]),
        ("the .py of x.py", [".py"], [".py"]),
        ("naïve Köln", ["Köln", "na"], ["Köln"]),
    ],
)
def test_terms_are_whole_words_where_words_have_spaces(source, terms, occurrences):
    spans = find_occurrences(source, terms)
    assert [source[start:end] for start, end in spans] == occurrences


def test_terms_within_other_terms_and_texts_without_terms_are_no_fault(tokenizer):
    examples = [
        Example({"source": TEXT, "terms": "big pears; pears"}),
        Example({"source": TEXT, "terms": ";"}),
    ]
    one, none = TermTags(100).encode(examples, tokenizer)
    assert one.notes == (("occurrences of terms are tagged", "big pears"),)
    assert none.notes == ()


def test_terms_behind_the_cut_are_counted_and_refused_where_all_are(tokenizer):
    layout, account = TermTags(10), DataAccount()
    example = Example({"source": TEXT, "terms": "miller"})
    [encoded] = layout.encode([example], tokenizer)
    assert encoded.cuts == (Cut("source", len(TEXT.encode()) - 10, "model.context=10"),)
    account.add(example, encoded, "train", layout.fields, layout.learned_fields, tokenizer, {})
    assert "model.context=10: every term is behind" in layout.objection(account)
    tagged = Example({"source": TEXT, "terms": "day"})
    [encoded] = layout.encode([tagged], tokenizer)
    account.add(tagged, encoded, "train", layout.fields, layout.learned_fields, tokenizer, {})
    assert layout.objection(account) == ""
