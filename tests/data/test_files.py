import gzip
import json
from pathlib import Path

import pytest

from gptexp.config import schema
from gptexp.data.corpora.files import Files
from gptexp.errors import UserError

CACHE = Path("cache")
PAIR, TEXT = ("source", "target"), ("text",)
ROWS = [{"source": f"question {i}", "target": f"answer {i}"} for i in range(30)]


def read(path, fields=PAIR, **settings):
    return list(
        Files(
            schema.FilesConfig(path=path if isinstance(path, list) else str(path), **settings),
            fields,
            CACHE,
        )
    )


def write(path: Path, kind: str) -> Path:
    match kind:
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        case "jsonl.gz":
            path.write_bytes(
                gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode())
            )
        case "csv":
            lines = (
                f'{number},"{row["source"]}",{row["target"]}\n' for number, row in enumerate(ROWS)
            )
            path.write_text(",source,target\n" + "".join(lines))  # as pandas writes it
        case "parquet":
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_each_kind_of_file_gives_the_same_examples(kind, tmp_path):
    assert [example.fields for example in read(write(tmp_path / f"data.{kind}", kind))] == ROWS


def test_a_piece_of_a_text_names_its_first_line(tmp_path):
    lines = [f"line {number} " + "x" * 100 + "\n" for number in range(1, 60)]
    (tmp_path / "a.txt").write_text("".join(lines))
    examples = read(tmp_path / "a.txt", TEXT)
    assert len(examples) > 10
    for example in examples:
        number = example.fields["text"].split()[1]
        assert example.where == f"{tmp_path / 'a.txt'}, line {number}"


def test_parallel_files_folders_and_patterns(tmp_path):
    (tmp_path / "a.en").write_text("one\n\ntwo\n")
    (tmp_path / "a.de").write_text("eins\n\nzwei\n")
    both = read([str(tmp_path / "a.en"), str(tmp_path / "a.de")])
    assert [example.fields for example in both if example.fields["source"]] == [
        {"source": "one", "target": "eins"},
        {"source": "two", "target": "zwei"},
    ]
    (tmp_path / "texts").mkdir()
    for name in ("b.txt", "a.md", "ignored.png"):
        (tmp_path / "texts" / name).write_text(f"text of {name}")
    assert [(e.fields["text"], e.left_out) for e in read(tmp_path / "texts", TEXT)] == [
        ("text of a.md", ""),
        ("text of b.txt", ""),
        ("", "'.png' files in the folder are not read"),
    ]
    pattern = read(tmp_path / "texts" / "*.txt", TEXT, val_fraction=0, test_fraction=0)
    assert [example.fields["text"] for example in pattern] == ["text of b.txt"]


def test_a_text_file_is_cut_into_pieces_that_join_to_the_same_text(text_file):
    pieces = read(text_file, TEXT)
    assert len(pieces) > 100
    assert "".join(piece.fields["text"] for piece in pieces) == text_file.read_text()
    assert [piece.ends_document for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_lists_and_other_names_of_fields(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"article": ["one.", "two."], "tldr": ["short", "long"]})
    )
    names = {"source": "article", "target": "tldr"}
    [example] = Files(schema.FilesConfig(path=str(tmp_path / "a.jsonl"), fields=names), PAIR, CACHE)
    assert example.fields == {"source": "one. two.", "target": "short"}


def test_given_validation_files_are_the_validation_split(pairs_file, tmp_path):
    (tmp_path / "val.jsonl").write_text(json.dumps(ROWS[0]))
    sides = [example.split for example in read(pairs_file, val_path=str(tmp_path / "val.jsonl"))]
    assert sides == ["train"] * 300 + ["val"]


BROKEN = "".join(json.dumps(row) + "\n" for row in ROWS[:16]) + "{broken\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "no such file"),
        ("empty.jsonl", b"", "empty"),
        ("empty.parquet", b"", "not a Parquet file"),
        ("data.jsonl", BROKEN.encode(), "line 17: not JSON"),
        ("data.jsonl", b'{"source": "a"}', "no field 'target'. It has: source"),
        ("data.jsonl", b'{"source": "a", "target": {"b": 1}}', "line 1: field 'target' holds"),
        ("data.jsonl", b"[1, 2]", "item 1: a JSON object is needed"),
        (
            "data.jsonl",
            '{"source": "caf\xe9", "target": "b"}'.encode("latin-1"),
            "line 1: not utf-8",
        ),
        ("data.csv", b"source,target\na,b\nc\n", "line 3"),
        ("data.csv", b"source,source\na,b\n", "line 1: names the column 'source' more than once"),
        ("data.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("data.jsonl.gz", b"not gzip", "gzip"),
        ("data.jsonl.gz", gzip.compress(BROKEN.encode())[:20] + b"x" * 99, "gzip"),
        ("data.parquet.gz", b"x", "not a complete gzip file"),
        ("data.docx", b"x", "'.docx' files are not read. Save it as plain text"),
        ("data.jsom", b"x", "'.jsom' is not a known extension. Did you mean '.json'"),
        ("data.txt", b"x", "JSON lines, CSV or Parquet"),
    ],
)
def test_a_broken_file_is_named_with_its_line(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read(tmp_path / name)
    assert message in str(error.value)
    assert name in str(error.value)


def test_parallel_files_of_unequal_length_are_refused(tmp_path):
    (tmp_path / "a").write_text("one\ntwo\n")
    (tmp_path / "b").write_text("eins\n")
    for pair in (["a", "b"], ["b", "a"]):
        with pytest.raises(UserError, match="ends after line 1"):
            read([str(tmp_path / name) for name in pair])


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "shift_jis"])
def test_characters_survive_lines_longer_than_the_buffer_and_files_without_a_last_line_end(
    encoding, tmp_path, monkeypatch
):
    from gptexp.data.corpora import files

    text = {
        "utf-8": "日本語🙂é\n",
        "latin-1": "café é\n",
        "utf-16": "日Ċ本🙂é\n",
        "shift_jis": "日本語\n",
    }[encoding] * 50
    (tmp_path / "a.txt").write_bytes(text[:-1].encode(encoding))
    monkeypatch.setattr(files, "MAX_LINE_CHARACTERS", 7)
    pieces = read(tmp_path / "a.txt", TEXT, encoding=encoding)
    assert "".join(piece.fields["text"] for piece in pieces) == text[:-1]


def test_parallel_lines_and_records_may_be_mixed(tmp_path):
    (tmp_path / "a.en").write_text("one\ncoffee")
    (tmp_path / "a.fr").write_bytes("un\ncaf\xe9".encode("latin-1"))
    write(tmp_path / "val.jsonl", "jsonl")
    found = read(
        [str(tmp_path / "a.en"), str(tmp_path / "a.fr")],
        val_path=str(tmp_path / "val.jsonl"),
        encoding="latin-1",
    )
    assert [e.fields["target"] for e in found[:2]] == ["un", "café"]
    assert [e.split for e in found] == ["train"] * 2 + ["val"] * 30


def test_an_empty_document_has_an_empty_group_key(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"text": ""}\n')
    assert [example.group_key for example in read(tmp_path / "data.jsonl", TEXT)] == [""]


def test_a_text_of_a_few_lines_has_a_piece_for_each_split(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"This is line {i}.\n" for i in range(12)))
    assert len(read(tmp_path / "a.txt", TEXT)) >= 6
    for text in ("a text without a line end, and more of it " * 300, "日本語" * 400):
        (tmp_path / "b.txt").write_text(text, "utf8")
        pieces = read(tmp_path / "b.txt", TEXT)
        assert "".join(piece.fields["text"] for piece in pieces) == text
        assert len(pieces) >= 3
        assert [piece.ends_document for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert len(read(tmp_path / "b.txt", TEXT, val_fraction=0, test_fraction=0)) == 1


def test_text_files_beside_tables_and_empty_files_are_left_out_with_a_reason(tmp_path):
    (tmp_path / "README.md").write_text("About these pairs.")
    (tmp_path / "empty.jsonl").write_text("")
    write(tmp_path / "data.jsonl", "jsonl")
    (tmp_path / "package.json").write_text("{ // settings\n}")
    (tmp_path / "backup.zip").write_bytes(b"PK\x03\x04 damaged")
    reasons = {example.left_out: Path(example.where).name for example in read(tmp_path)}
    assert reasons.pop("'.json' files in the folder are not read") == "package.json"
    assert reasons.pop("'.zip' files in the folder are not read") == "backup.zip"
    assert reasons.pop("a text file has no source and target") == "README.md"
    assert reasons.pop("the file is empty") == "empty.jsonl"
    assert list(reasons) == [""]


def test_a_folder_with_files_of_several_splits_is_reported(tmp_path, capsys):
    for name in ("train.jsonl", "validation.jsonl", "other.jsonl"):
        write(tmp_path / name, "jsonl")
    assert len(read(tmp_path)) == 90
    message = capsys.readouterr().err
    assert "train.jsonl and validation.jsonl are read as one and divided anew" in message
    assert f"data.path={tmp_path}/train.jsonl data.val_path={tmp_path}/validation.jsonl" in message


def test_record_files_are_not_read_as_parallel_lines(tmp_path):
    files = [str(write(tmp_path / f"{name}.jsonl", "jsonl")) for name in "ab"]
    with pytest.raises(UserError, match=r"two parallel files are texts.*a\.jsonl .*b\.jsonl both/"):
        read(files)


def test_white_space_alone_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n  \n")
    with pytest.raises(UserError, match="only white space"):
        read(tmp_path / "a.txt", TEXT)


def test_json_lines_under_another_name_are_read_for_a_task_of_pairs(tmp_path):
    for name in ("data.txt", "data.log", "data"):
        write(tmp_path / "data.jsonl", "jsonl").rename(tmp_path / name)
        assert [example.fields for example in read(tmp_path / name)] == ROWS
