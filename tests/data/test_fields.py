import datetime
import decimal
import json
from dataclasses import replace

import numpy as np
import pytest

from gptexp.config.schema import FilesConfig
from gptexp.data.corpora import open_corpus
from gptexp.data.corpora.fields import FieldReader, find_value, nested_names, text_of_scalar
from gptexp.errors import UserError

PAIR = ("source", "target")
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How deep is the well?"},
    {"role": "assistant", "content": "Nine metres."},
]


def example(record, fields=PAIR, **names):
    return FieldReader(fields, names).example(record, "a.jsonl, line 1")


def read_all(records, names):
    reader = FieldReader(PAIR, names)
    for record in records:
        reader.example(record, "row")
    reader.check_names()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e22, "1e+22"),
        (2**70, str(2**70)),
        (np.float32(0.1), "0.1"),
        (np.float16(0.1), "0.1"),
        (np.float32(3), "3"),
        (np.int64(7), "7"),
        (True, "true"),
        (np.bool_(False), "false"),
        (decimal.Decimal("3.10"), "3.10"),
        (decimal.Decimal("300"), "300"),
        (decimal.Decimal("3E+2"), "300"),
        (datetime.date(2024, 3, 1), "2024-03-01"),
        (b"caf\xc3\xa9", "café"),
        (None, None),
        (float("nan"), None),
        (np.float32("nan"), None),
        (decimal.Decimal("NaN"), None),
        ("3.0", "3.0"),
    ],
)
def test_a_value_has_one_spelling(value, text):
    assert text_of_scalar(value) == text


def test_blanks_of_pandas_are_blanks():
    import pandas

    assert text_of_scalar(pandas.NA) is None
    assert text_of_scalar(pandas.NaT) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("translation.en", "well"),
        ("messages.1.content", "How deep is the well?"),
        ("messages.-1.content", "Nine metres."),
        ("a.b", "dotted"),
        ("x.a.b", "inner"),
        ("rows.0.1", "second"),
    ],
)
def test_nested_values_have_dotted_names(path, value):
    record = {
        "translation": {"en": "well"},
        "messages": CHAT,
        "a.b": "dotted",
        "x": {"a.b": "inner"},
        "rows": [["first", "second"]],
    }
    assert find_value(record, path) == value
    listed = ["translation.en", "messages.0.role", "messages.0.content", "a.b", "x.a.b"]
    assert nested_names(record) == [*listed, "rows.0.0", "rows.0.1"]


def test_lists_are_joined_and_the_first_target_is_taken():
    lists = {"source": ["one.", "two."], "target": ["short", "long"]}
    pair = example(lists)
    assert pair.fields == {"source": "one. two.", "target": "short"}
    assert pair.notes == ("of the list in 'target', only the first text is used",)
    assert example({"source": ["a", "b"], "target": ["short"]}).notes == ()
    assert (
        example({"text": "t", "terms": ["a", None, 3]}, ("text", "terms")).fields["terms"] == "a; 3"
    )


def test_half_of_a_surrogate_pair_is_noted():
    pair = example({"source": "half \ud83d", "target": "whole \U0001f600"})
    assert pair.fields == {"source": "half ?", "target": "whole \U0001f600"}
    assert pair.notes == ("half of a surrogate pair in the field 'source' is read as '?'",)


def test_a_template_joins_fields_and_leaves_out_lines_without_any():
    names = {"source": "Task: {instruction}\n{input}\n--", "target": "{out.text} ({out.year})"}
    record = {"instruction": "Add.", "input": "", "out": {"text": "Two", "year": 2.0}}
    assert example(record, **names).fields == {"source": "Task: Add.\n--", "target": "Two (2)"}
    record["input"] = "1 + 1"
    assert example(record, **names).fields["source"] == "Task: Add.\n1 + 1\n--"
    assert (
        example({**record, "instruction": None, "input": " "[1:]}, **names).fields["source"] == ""
    )


def test_a_field_that_some_records_lack_leaves_them_out():
    reader = FieldReader(PAIR, {})
    records = [{"source": "a"}, {"source": "a", "target": None}, {"source": "a", "target": "b"}]
    examples = [reader.example(record, "here") for record in records]
    reader.check_names()
    assert [example.left_out for example in examples] == [
        "no field 'target'",
        "the field 'target' is empty",
        "",
    ]
    assert [example.fields["target"] for example in examples] == ["", "", "b"]
    blank = example({"article": "a", "tldr": " "}, source="article", target="tldr")
    assert blank.left_out == "the field 'tldr' is empty"
    assert example({"text": None}, ("text",)).left_out == "the field 'text' is empty"
    assert example({"text": ""}, ("text",)).left_out == ""


def test_a_field_that_no_record_has_is_refused_with_the_names_that_there_are():
    reader = FieldReader(("image", "caption"), {})
    reader.example({"file": "a.png", "captions": {"en": "red"}}, "t.csv, line 2")
    with pytest.raises(UserError) as error:
        reader.check_names()
    assert str(error.value) == (
        "t.csv, line 2: no field 'image', no field 'caption'. It has: file, captions.en. "
        "Name the right one with data.fields.image=file data.fields.caption=captions.en"
    )
    reader = FieldReader(PAIR, {"source": "{titlee}\n{body}"})
    for _ in range(999):
        reader.example({"title": "a", "body": "b"}, "row")
    message = r"row: no field 'titlee', no field 'target'\. Did you mean 'title'"
    with pytest.raises(UserError, match=message):
        reader.example({"title": "a", "body": "b"}, "row")


@pytest.mark.parametrize(
    ("names", "fields", "settings"),
    [
        (
            "instruction input output",
            PAIR,
            "'data.fields.source={instruction}\\n{input}' data.fields.target=output",
        ),
        ("text label", PAIR, "data.fields.source=text data.fields.target=label"),
        ("id prompt chosen rejected", PAIR, "data.fields.source=prompt data.fields.target=chosen"),
        ("Article Summary", PAIR, "data.fields.source=Article data.fields.target=Summary"),
        ("id question answer", PAIR, "data.fields.source=question data.fields.target=answer"),
        ("source summary", PAIR, "data.fields.target=summary"),
        ("x y", PAIR, "data.fields.source=... data.fields.target=..."),
        ("id body", ("text",), "data.fields.text=body"),
        ("prompt completion", ("text",), "'data.fields.text={prompt}\\n{completion}'"),
        ("text keywords", ("text", "terms"), "data.fields.terms=keywords"),
    ],
)
def test_the_settings_that_common_names_need_are_complete(names, fields, settings):
    reader = FieldReader(fields, {})
    reader.example(dict.fromkeys(names.split(), "a"), "a.csv, line 2")
    with pytest.raises(UserError) as error:
        reader.check_names()
    assert str(error.value).endswith(f"Name the right one with {settings}")


@pytest.mark.parametrize(
    ("record", "advice"),
    [
        ({"Report of March": "source", "": "note"}, "The names stand below the first line: delete"),
        ({"Report of March": "question,answer"}, "The names stand below the first line: delete"),
        ({"Report of March": "source;target"}, "The names stand below the first line: delete"),
        (
            {"The well is nine metres deep.": "a", "Nine": "b"},
            "add a line with the names of the columns above it, source and target",
        ),
        ({"0": "a", "1": "b"}, "add a line with the names of the columns above it, source and ta"),
    ],
)
def test_a_first_line_without_names_is_explained(record, advice):
    with pytest.raises(UserError, match=advice):
        read_all([record], {})


def test_texts_alone_are_no_pairs():
    with pytest.raises(UserError, match="A text alone is no example: this task needs source and t"):
        read_all([{"text": "a"}], {})


@pytest.mark.parametrize(
    ("record", "names", "question"),
    [
        ({"messages": CHAT}, {}, "messages.1.content"),
        ({"messages": CHAT}, {"source": "messages", "target": "messages"}, "messages.1.content"),
        ({"chat": [*CHAT, {"role": "tool", "calls": []}]}, {}, "chat.1.content"),
        (
            {
                "messages": [
                    {**message, "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]}
                    for message in CHAT
                ]
            },
            {},
            "messages.1.content.1.text",
        ),
        (
            {
                "id": 7,
                "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}],
            },
            {},
            "conversations.0.value",
        ),
    ],
)
def test_a_chat_is_named_with_the_settings_and_the_row_that_are_needed(record, names, question):
    with pytest.raises(UserError, match="is a chat") as error:
        read_all([record], names)
    assert f"data.fields.source={question} data.fields.target=" in str(error.value)
    row = json.loads(str(error.value).rpartition("each answer: ")[2])
    assert list(row) == ["source", "target"]


@pytest.mark.parametrize(
    ("value", "part"),
    [({"en": "a"}, "It has: target.en"), ([[1, 2]], "It has: target.0.0"), (b"\xff", "holds b'")],
)
def test_a_value_that_is_no_text_is_refused_with_its_parts(value, part):
    with pytest.raises(UserError, match=r"line 1: field 'target' holds") as error:
        example({"source": "a", "target": value})
    assert part in str(error.value)


def test_token_numbers_are_no_text():
    with pytest.raises(UserError, match=r"field 'input_ids' holds \[1, 2\]"):
        example({"input_ids": [1, 2]}, ("text",), text="input_ids")


def test_data_template_is_for_the_source_or_the_text(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "Add.", "input": "1 + 1", "output": "2"}\n')
    settings = FilesConfig(
        path=str(rows), fields={"target": "output"}, template="{instruction}\n{input}"
    )
    [pair] = open_corpus(settings, PAIR, tmp_path)
    assert pair.fields == {"source": "Add.\n1 + 1", "target": "2"}
    [text] = open_corpus(replace(settings, fields={}), ("text",), tmp_path)
    assert text.fields == {"text": "Add.\n1 + 1"}
    with pytest.raises(UserError, match=r"no field 'heading'\..* data\.template=\.\.\.$"):
        list(open_corpus(replace(settings, fields={}, template="{heading}"), ("text",), tmp_path))
    with pytest.raises(UserError, match="both name the source: give one"):
        open_corpus(replace(settings, fields={"source": "input"}), PAIR, tmp_path)
