import gzip
import json

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from gptexp.config import schema
from gptexp.data.corpora import json_records
from gptexp.data.corpora.records import known_extension, read_records
from gptexp.errors import UserError

ROWS = [
    {"source": 'How many, "jars"?', "target": "3; three"},
    {"source": "été\tand", "target": "4"},
]
PANDAS = {name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}
SPLIT = {
    "columns": ["source", "target"],
    "index": [0, 1],
    "data": [list(row.values()) for row in ROWS],
}


def read(path, content=None, **settings):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    config = schema.FilesConfig(path=str(path), **settings)
    return [
        row for _, row in read_records(path, known_extension(path), config, ("source", "target"))
    ]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\n\n[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
        "".join(json.dumps(row) + "\n\n" for row in ROWS),
        "\n".join(json.dumps(row, indent=1) for row in ROWS),
        json.dumps({"version": 1, "data": ROWS}),
        json.dumps({"data": ROWS, "licence": ["a", "b"]}, indent=1),
        json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}),
        json.dumps(PANDAS),
        json.dumps({str(i): row for i, row in enumerate(ROWS)}),
        json.dumps(SPLIT),
        json.dumps([list(row.values()) for row in ROWS]),
        "\ufeff" + json.dumps(ROWS),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_every_layout_of_json_gives_the_same_records(text, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(json_records, "CHUNK_CHARACTERS", chunk)
    assert read(tmp_path / "a.json", text) == ROWS


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson", "a.JSONL", "a.jl"])
def test_json_lines_have_any_of_their_extensions(name, tmp_path):
    assert read(tmp_path / name, "".join(json.dumps(row) + "\n" for row in ROWS)) == ROWS


def test_texts_and_pairs_of_json_are_records(tmp_path):
    pairs = "".join(json.dumps(list(row.values())) + "\n" for row in ROWS)
    assert read(tmp_path / "pairs.jsonl", pairs) == ROWS
    records = [{"text": "one"}, {"text": "two"}]
    assert read(tmp_path / "a.json", '["one", "two"]') == records
    assert read(tmp_path / "a.jsonl", '"one"\n"two"\n') == records


def test_an_object_with_the_fields_of_the_task_is_a_record(tmp_path):
    row = {"source": "a", "target": "b", "entities": [{"start": 0}]}
    assert read(tmp_path / "a.json", json.dumps(row)) == [row]
    lists = {"source": ["one", "two"], "target": ["short", "long"]}
    assert read(tmp_path / "a.jsonl", json.dumps(lists)) == [lists]
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    assert read(tmp_path / "chat.json", json.dumps(chat)) == [chat]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1},\n {"a": 2}', "line 2: not JSON"),
        ('[{"a": 1}\n {"a": 2}]', "line 2: not JSON (Expecting ',' delimiter)"),
        ('[{"a": 1},\n7]', 'item 2: a JSON object is needed, not 7. Write {"source": '),
        ('[\n{"a": 1}]\n{"a": 2}', "line 2: more text follows the array"),
        ('[{"a": 1}]\n[{"a": 2}]', 'line 1: a JSON object is needed, not [{"a": 1}].'),
        ('{"a": 1}\n{"a": 2}\n[3]\n', "line 3: a JSON object is needed, not [3]."),
        ('{\n "a": 1,\n "b" 2}', "line 3: not JSON"),
        ('{"train": [{"a": 1}], "test": [{"a": 2}]}', "several arrays (train, test)"),
        ("7", "line 1: a JSON object is needed, not 7."),
        ("null", "line 1: a JSON object is needed, not null."),
        ('[{"a": 1},\n{"a": 2}, // note\n{"a": 3}]', "line 2: not JSON (JSON has no comments"),
        ('[{"a": 1},\n{"a": 2},\n]', "line 2: not JSON (a comma stands before the closing"),
        ('[{"a": 1,\n}]', "line 1: not JSON (a comma stands before the closing"),
        ('{"a": 1}\n{"a": "open\n{"a": 2}', "line 2: not JSON (a text is not closed"),
        ('[{"a": 1},\n{"a": "open\n}]', "line 2: not JSON (a text is not closed"),
        ("{\"a\": 1}\n{'a': 2}", "line 2: not JSON (names and texts need double"),
        ('{"a": 1}\n{"a": "b\tc"}', "a character such as a tab is written \\t)"),
        ('{"a": 1}\n{"a": None}', "line 2: not JSON (JSON writes true, false and null"),
        (
            '{"a": 1}\n{"a": 2, "a": 3}',
            "line 2: not JSON (an object has the key 'a' more than once",
        ),
        ('[{"a": 1},\n{"b": {"a": 2, "a": 3}}]', "an object has the key 'a' more than once"),
        ('{"source": ["a", "b"], "target": ["a", "b", "c"]}', "not source 2, target 3"),
    ],
)
def test_json_without_records_is_named_with_its_line(text, message, tmp_path):
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.json", text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'source,target\n"How many, ""jars""?",3; three\nété\tand,4\n'),
        ("b.csv", 'source;target\nHow many, "jars"?;"3; three"\nété\tand;4\n'),
        ("c.csv", '"source";"target"\r\n"How many, ""jars""?";"3; three"\r\n"été\tand";"4"\r\n'),
        ("d.csv", 'sep=;\n"source";"target"\n"How many, ""jars""?";"3; three"\n"été\tand";"4"\n'),
        ("e.tsv", 'source\ttarget\nHow many, "jars"?\t3; three\n"été\tand"\t4\n'),
        ("f.csv", 'source|target\n"How many, \\"jars\\"?"|3; three\nété\tand|4\n'),
        ("g.csv", "'source','target'\n'How many, \"jars\"?','3; three'\n'été\tand','4'\n"),
        ("h.csv", '\ufeffsource ,target\n"How many, ""jars""?",3; three\n\nété\tand,4'),
        ("i.csv", '\n,source,target\n0,"How many, ""jars""?",3; three\n1,été\tand,4\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_separator_and_quoting_of_a_table_are_found(name, text, encoding, tmp_path):
    rows = read(tmp_path / name, text.encode(encoding))
    assert [{"source": row["source"], "target": row["target"]} for row in rows] == ROWS


def test_separator_and_quoting_can_be_set(tmp_path):
    text = "source~target\n\"a\" is quoted~it's\n'b~c\n"
    rows = [{"source": '"a" is quoted', "target": "it's"}, {"source": "'b", "target": "c"}]
    assert read(tmp_path / "a.csv", text, separator="~", quoting="none") == rows
    assert read(tmp_path / "a.tsv", text.replace("~", "\t")) == rows  # found


def test_a_column_of_texts_needs_no_separator(tmp_path):
    assert read(tmp_path / "a.csv", 'text\n"one, two; three"\nfour; five\n') == [
        {"text": "one, two; three"},
        {"text": "four; five"},
    ]
    assert read(tmp_path / "c.csv", 'text\n"Hi" he said\n') == [{"text": '"Hi" he said'}]
    assert read(tmp_path / "b.csv", "text\nnot quoted, yet read\n") == [
        {"text": "not quoted, yet read"}
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b\n1,2\n3\n",
            "line 3: the first line names 2 columns, this row has 1 (read with data.sep",
        ),
        ("sep=;\na;b\n1;2;3\n", "line 3: the first line names 2 columns"),
        ("a,a\n1,2\n", "line 1: names the column 'a' more than once. Rename one"),
        (
            'a,b\n0,0\n"1,2\n3,4\n',
            "line 3: not CSV (a text begins with a quotation mark that is not",
        ),
        ('sep=,\na,b\n"0\n",0\n1,"2\n3,4\n', "line 5: not CSV (a text begins with"),
        ("a,b\n" + "1,2\n" * 300 + '"1" x,2\n', "line 302: not CSV"),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_line(text, message, tmp_path):
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.csv", text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.parquet.gz", "a.arrow", "a.feather", "stream.arrow"]
)
def test_arrow_tables_keep_the_width_of_their_numbers(name, tmp_path):
    inner = pyarrow.array(
        [[{"x": 0.1}], None], pyarrow.list_(pyarrow.struct([("x", pyarrow.float32())]))
    )
    table = pyarrow.table(
        {
            "single": pyarrow.array([0.1, None], pyarrow.float32()),
            "double": [0.1, 0.30000000000000004],
            "inner": inner,
            "map": pyarrow.array([[("k", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int8())),
        }
    )
    path = tmp_path / name
    if name.endswith(".feather"):
        pyarrow.feather.write_feather(table, path)
    elif "arrow" in name:
        make = pyarrow.ipc.new_stream if name == "stream.arrow" else pyarrow.ipc.new_file
        with make(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
    else:
        pyarrow.parquet.write_table(table, path)
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
    assert read(path) == [
        {"single": 0.1, "double": 0.1, "inner": [{"x": 0.1}], "map": {"k": 1}},
        {"single": None, "double": 0.30000000000000004, "inner": None, "map": {}},
    ]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather", "a.parquet.gz"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"ARROW1 and nothing", b"\xff" * 40])
def test_a_damaged_arrow_table_is_named(name, content, tmp_path):
    with pytest.raises(UserError, match=r"not a (Parquet|complete gzip) file|not an Arrow file"):
        read(tmp_path / name, content)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.log", r"If it is plain text, .*: cp .*a\.log .*a\.txt$"),
        ("a.tmx", "JSON lines"),
        ("a.xlsx", "Save the sheet as CSV"),
        ("a.tgz", "Unpack it"),
        ("a.pkl", "JSON lines"),
    ],
)
def test_other_layouts_are_named_with_the_way_out(name, advice, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=advice):
        known_extension(tmp_path / name)


def test_the_content_of_an_unknown_extension_is_looked_at(tmp_path):
    assert read(tmp_path / "dump.data", json.dumps(ROWS)) == ROWS
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "part-0")
    assert read(tmp_path / "part-0") == ROWS
