"""The table of answers that people read and judge."""

from pathlib import Path

import pytest

from gptexp.errors import UserError
from gptexp.run import run


@pytest.fixture
def read_answers(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import read_answers

    return read_answers


def test_answers_are_drawn_into_a_table_whose_verdicts_are_counted(translation, read_answers):
    folder = run(translation("trainer.max_steps=1"))
    table = read_answers.answer_table(str(folder.path), "test", 4, seed=1)
    assert table == read_answers.answer_table(str(folder.path), "test", 4, seed=1)
    assert table != read_answers.answer_table(str(folder.path), "test", 4, seed=2)
    header, rule, *rows = table.splitlines()
    assert header == "|  | input | reference | answer | verdict |"
    assert [row.split("|")[1].strip() for row in rows] == ["1", "2", "3", "4"]
    with pytest.raises(UserError, match=r"answers\.md, line 3: the verdict is ''; it must be one"):
        read_answers.describe_counts(table, "answers.md")
    rows[0] = r"| 1 | a \| b<br>c | d | e |  |"  # an input with the sign that divides columns
    verdicts = ("right", "partly", "Right", "empty")
    filled = [f"{row[:-2]}{verdict} |" for row, verdict in zip(rows, verdicts, strict=True)]
    counts = read_answers.describe_counts("\n".join([header, rule, *filled]), "answers.md")
    assert counts == "right 2, partly 1, wrong 0, empty 1 of 4"


def test_a_table_stays_a_table_whatever_its_texts_hold(read_answers):
    assert read_answers._cell("a | b\nc ") == r"a \| b<br>c"
