import json
from pathlib import Path

import pytest

from gptexp.config import schema
from gptexp.data.corpora.cldr import Cldr
from gptexp.data.corpora.cleaning import Cleaner
from gptexp.data.corpora.docstrings import parse_docstrings
from gptexp.data.corpora.hub import Hub
from gptexp.data.corpora.pydocs import Pydocs, dependencies, split_summary
from gptexp.data.duplicates import first_near_duplicates
from gptexp.errors import UserError

PAIR = ("source", "target")
CACHE = Path("cache")


def test_cldr_says_the_same_thing_in_two_languages():
    rows = [
        example.fields for example in Cldr(schema.CldrConfig(tgt="fr", examples=300), PAIR, CACHE)
    ]
    assert len({row["source"].lower() for row in rows}) == 300
    by_source = {row["source"]: row["target"] for row in rows}
    assert any("euro" in target for source, target in by_source.items() if "euros" in source)
    assert rows == [
        example.fields for example in Cldr(schema.CldrConfig(tgt="fr", examples=300), PAIR, CACHE)
    ]


@pytest.mark.parametrize("tgt", ["ja", "ar", "pt_BR"])
def test_cldr_knows_other_locales(tgt):
    assert all(
        example.fields["target"]
        for example in Cldr(schema.CldrConfig(tgt=tgt, examples=100), PAIR, CACHE)
    )


def test_an_unknown_locale_is_refused():
    with pytest.raises(UserError, match=r"data\.tgt=xx"):
        Cldr(schema.CldrConfig(tgt="xx"), PAIR, CACHE)


def test_docstrings_are_parsed_not_imported(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        'raise SystemExit\ndef f():\n    """Say what f does, at some length, in one line.\n\n    More."""\n'
    )
    assert parse_docstrings(path) == ["Say what f does, at some length, in one line.\n\nMore."]
    path.write_text("def broken(:\n    '''A docstring of a file that does not parse at all.'''")
    assert parse_docstrings(path) == []


def test_a_summary_is_a_first_line_with_prose_below():
    body = "It goes on with what a reader has to know, in so many more words than the summary has that one asks why."
    assert split_summary(f"Return the answer.\n\n{body}\n\nArgs:\n    x: a number") == (
        body,
        "Return the answer.",
    )
    assert split_summary(f"Return\nthe answer.\n\n{body}") == (body, "Return the answer.")
    assert split_summary(f"Two. Sentences here.\n\n{body}") is None
    assert split_summary("Return the answer.\n\nToo short.") is None


def test_views_of_pydocs_share_one_split_and_unseen_packages_are_a_split_of_their_own(tmp_path):
    config = schema.PydocsConfig(packages=["filelock", "tqdm", "fsspec"])
    documents = {e.fields["text"]: e.split for e in Pydocs(config, ("text",), tmp_path)}
    assert set(documents.values()) == {"train", "val", "test", "unseen"}
    assert any(
        "file system" in text.lower() for text, split in documents.items() if split == "unseen"
    )
    pairs = list(Pydocs(config, PAIR, tmp_path))
    assert {pair.split for pair in pairs} >= {"train", "unseen"}
    for pair in pairs:
        splits = [
            split
            for text, split in documents.items()
            if pair.fields["target"] in " ".join(text.split())
        ]
        assert pair.split in splits


def test_cleaned_documents_are_prose_without_boilerplate():
    cleaner = Cleaner()
    licence = "Redistribution is permitted\nunder the terms of the licence."
    text = f"Say it.\n\nExamples\n--------\n\n>>> say(1)\n1\n\n```py\nsay(2)\n```\n\n.. math::\n\n{licence}\n\n"
    assert [cleaner.extract_prose(text + f"Part {i} of it.") for i in range(4)] == [
        f"Say it.\n\n{licence}\n\nPart 0 of it.",
        f"Say it.\n\n{licence}\n\nPart 1 of it.",
        "Part 2 of it.",
        "Part 3 of it.",
    ]


def test_near_duplicates_point_to_the_first(tmp_path):
    words = " ".join(f"word{i}" for i in range(60))
    (tmp_path / "a.py").write_text(
        "\n".join(f'def f{i}():\n    """Do it {i} times. {words}"""' for i in range(9))
    )
    assert first_near_duplicates(parse_docstrings(tmp_path / "a.py")).tolist() == [0] * 9


def test_dependencies_are_those_of_the_named_extras_that_are_installed(tmp_path, monkeypatch):
    requires = {
        "one": ["two", "four; extra == 'speech'", "five; extra == 'dev'", "missing"],
        "two": ["three", "six; extra == 'speech'"],
        **dict.fromkeys(("three", "four", "five", "six"), ()),
    }
    for name, lines in requires.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        text = "".join(f"Requires-Dist: {line}\n" for line in lines)
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{text}"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert dependencies("one") == {"two", "three"}
    assert dependencies("one", ("speech", "vision")) == {"two", "three", "four"}


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(UserError, match=r"'tqdn' is not installed\. Did you mean 'tqdm'"):
        Pydocs(schema.PydocsConfig(packages=["tqdn"]), PAIR, None)
    with pytest.raises(
        UserError, match=r"data\.unseen: 'netwrokx' is not installed\. Did you mean 'networkx'"
    ):
        Pydocs(schema.PydocsConfig(packages=["tqdm"], unseen=["netwrokx"]), PAIR, None)


def test_a_saved_data_set_keeps_its_splits(tmp_path):
    import datasets

    rows = datasets.Dataset.from_list(
        [{"q": f"question {i}", "a": f"answer {i}"} for i in range(10)]
    )
    datasets.DatasetDict({"train": rows, "validation": rows.select([0, 1])}).save_to_disk(
        str(tmp_path / "saved")
    )
    corpus = Hub(
        schema.HubConfig(name=str(tmp_path / "saved"), fields={"source": "q", "target": "a"}),
        PAIR,
        CACHE,
    )
    assert [example.split for example in corpus] == ["train"] * 10 + ["val"] * 2
    assert next(iter(corpus)).fields == {"source": "question 0", "target": "answer 0"}


def test_a_hub_name_without_a_network_is_refused_at_once():
    with pytest.raises(UserError, match="no/such-data"):
        Hub(schema.HubConfig(name="no/such-data"), PAIR, CACHE)


@pytest.mark.parametrize("streaming", [False, True])
def test_texts_beside_a_column_of_audio_need_no_decoder(streaming, own_folder):
    import datasets

    rows = {"audio": [{"bytes": b"no sound", "path": None}] * 3, "sentence": ["a", "b", None]}
    folder = own_folder / "data"
    folder.mkdir()
    table = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio())
    table.to_parquet(folder / "train.parquet")
    corpus = open_hub(folder, ("text",), fields={"text": "sentence"}, streaming=streaming)
    assert [example.fields["text"] for example in corpus] == ["a", "b", ""]
    assert [bool(example.left_out) for example in corpus] == [False, False, True]


def test_a_streamed_data_set_that_has_changed_describes_itself_otherwise(hub_folder):
    before = open_hub(hub_folder, streaming=True, fields={"source": "x"}).describe()
    assert before == open_hub(hub_folder, streaming=True, fields={"source": "x"}).describe()
    (hub_folder / "train.jsonl").write_text('{"source": "a", "target": "b"}\n')
    assert before != open_hub(hub_folder, streaming=True, fields={"source": "x"}).describe()


@pytest.fixture
def hub_folder(own_folder):
    folder = own_folder / "data"
    folder.mkdir()
    rows = ({"pair": {"en": f"well {i}", "de": f"Brunnen {i}"}, "depth": i / 2} for i in range(9))
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def open_hub(name, task_fields=PAIR, **settings):
    return Hub(schema.HubConfig(name=str(name), **settings), task_fields, CACHE)


def test_a_streamed_data_set_gives_the_same_examples_and_ends_at_the_limit(hub_folder):
    names = {"source": "pair.en", "target": "{pair.de}: {depth}"}
    plain = [example.fields for example in open_hub(hub_folder, fields=names)]
    assert plain[2] == {"source": "well 2", "target": "Brunnen 2: 1"}
    streamed = open_hub(hub_folder, fields=names, streaming=True, limit=4)
    assert [example.fields for example in streamed] == plain[:4]
    assert [example.fields for example in streamed] == plain[:4]
