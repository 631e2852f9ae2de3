import ast
import json
from pathlib import Path

import pytest

from gptexp.config import schema
from gptexp.data.corpora import pydocs
from gptexp.data.corpora.cldr import Cldr
from gptexp.data.corpora.cleaning import Cleaner
from gptexp.data.corpora.docstring_markup import plain_text
from gptexp.data.corpora.docstrings import Docstring, parse_docstrings
from gptexp.data.corpora.hub import Hub
from gptexp.data.corpora.pydocs import Pydocs, dependencies
from gptexp.data.corpora.summaries import content_words, summary_pair, support
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


MODULE = '''
"""Say what the module is for, in one line."""
raise SystemExit
class Shelf:
    """Hold many books, each at a place of its own."""
    def find(self, title: str, *, case=False) -> int:
        """Find the place of a book by its title, at some length.

        More."""
        place = self.places[title]
        return place
async def f():
    """Say what f does, at some length, in one line."""
'''


def test_docstrings_are_parsed_not_imported(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    module, shelf, function, find = parse_docstrings(path)
    assert module == ("module", "Say what the module is for, in one line.", "")
    assert (shelf.header, function.header) == ("Shelf", "f()")
    assert find.header == "Shelf.find(title, case) -> int"
    assert find.text == "Find the place of a book by its title, at some length.\n\nMore."
    assert find.code == "place = self.places[title]\nreturn place"
    path.write_text("def broken(:\n    '''A docstring of a file that does not parse at all.'''")
    assert parse_docstrings(path) == []


BODY = "It goes on with what a reader has to know, in so many more words than the summary has that one asks why."


def pair_of(text, with_code=False):
    return summary_pair(Docstring("Shelf.find(title)", text, "return 1"), with_code)


def test_a_summary_is_a_first_line_and_its_source_begins_with_the_signature():
    arguments = "Args:\n    x: a number"
    source, summary = pair_of(f"Find\nthe book.\n\n{BODY}\n>>> find()\n\n{arguments}")
    assert summary == "Find the book."
    assert source == f"Shelf.find(title)\n{BODY}\nArgs: x: a number"
    assert pair_of(f"Find it now.\n\n{BODY * 9}").source.endswith(" than the")  # a long one is cut
    assert pair_of(f"Find it now.\n\n{BODY}", with_code=True).source.endswith("why.\nreturn 1")
    assert pair_of("Find it now.\n\nToo short.", with_code=True)
    for text in ("Two. Sentences here.\n\n" + BODY, "Find it now.\n\nToo short."):
        assert pair_of(text) is None
    assert pair_of(f"Return the answer.\n\n{BODY}") is None  # as every getter does


def test_a_summary_is_supported_by_the_stems_of_its_source():
    assert content_words("The find_book of HTTPServers is reading") == {
        *("find", "book", "http", "server", "read")
    }
    assert support("Finds books quickly.", "find a Book") == pytest.approx(2 / 3)
    assert support("It is the one.", "nothing") == 1
    assert pair_of(f"Find some readers.\n\n{BODY}").is_supported
    assert not pair_of(f"Find unrelated green vegetables.\n\n{BODY}").is_supported


def test_pairs_without_support_are_tested_on_and_never_trained_on(tmp_path, monkeypatch):
    folder = tmp_path / "source"
    folder.mkdir()
    for i in range(60):
        first = "Find the book" if i % 2 else "Grow vegetables"
        rest = " ".join(f"word{i}x{j}" for j in range(25))
        text = f'def find_book{i}():\n    """{first} number{i}.\n\n    {rest}"""\n'
        (folder / f"m{i}.py").write_text(text)
    monkeypatch.setattr(pydocs, "_sources", lambda _: [("shelf", "1", "MIT", folder)])
    config = schema.PydocsConfig(packages=["shelf"], unseen=[], test_fraction=0.3)
    pairs = list(Pydocs(config, PAIR, tmp_path))
    splits = {(pair.split, bool(pair.left_out), pair.fields["target"][0]) for pair in pairs}
    assert splits == {
        *[("train", False, "F"), ("val", False, "F"), ("test", False, "F")],
        *[("train", True, "G"), ("val", True, "G"), ("unsupported", False, "G")],
    }


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
        pair.split = "test" if pair.split == "unsupported" else pair.split
        splits = [
            split
            for text, split in documents.items()
            if pair.fields["target"] in " ".join(plain_text(text).split())
        ]
        assert pair.split in splits


@pytest.mark.parametrize(("fields", "differ"), [(PAIR, True), (("text",), False)])
def test_pairs_with_code_are_described_as_other_data(fields, differ, tmp_path):
    plain, code = (
        Pydocs(schema.PydocsConfig(packages=["tqdm"], unseen=[], code=code), fields, tmp_path)
        for code in (False, True)
    )
    assert (plain.describe() != code.describe()) == differ


def test_a_paragraph_with_key_terms_stands_below_the_signature_and_is_used_once(
    tmp_path, monkeypatch
):
    paragraph = "It returns the ``book`` that has this very ``title``, or nothing if there is none."
    (tmp_path / "m.py").write_text(
        f'''def find(title):\n    """Find it.\n\n    {paragraph}"""\n'''
        f'''def seek(title):\n    """Seek the other book.\n\n    {paragraph}"""\n'''
    )
    monkeypatch.setattr(pydocs, "_sources", lambda _: [("shelf", "1", "MIT", tmp_path)])
    config = schema.PydocsConfig(
        packages=["shelf"], unseen=[], split="exact", val_fraction=0, test_fraction=0
    )
    [example] = Pydocs(config, ("source", "terms"), tmp_path)
    text = paragraph.replace("`", "")
    assert example.fields == {"source": f"find(title)\n{text}", "terms": "book; title"}


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


def test_docstrings_are_found_in_every_block_in_the_order_of_depth(tmp_path):
    blocks = [
        ("if 1:", "elif 2:", "else:"),
        ("for i in x:", "else:"),
        ("while 1:", "else:"),
        ("with x:",),
        ("try:", "except A:", "else:", "finally:"),
        ("try:", "except* B:"),
    ]
    source, expected = "", []
    for opening in (line for lines in blocks for line in lines):
        name = f"f{len(expected)}"
        source += f'{opening}\n def {name}(): """{name} {"word " * 10}"""\n'
        expected.append(name)
    source += f'match x:\n case 1:\n  class C:\n   """C {"word " * 10}"""\n'
    source += f'def last():\n """last {"word " * 10}"""\n'
    (tmp_path / "a.py").write_text(source)
    names = [docstring.text.split()[0] for docstring in parse_docstrings(tmp_path / "a.py")]
    tree = ast.parse(source)
    documented = [node.name for node in ast.walk(tree) if hasattr(node, "name") and node.name]
    assert names == documented
    assert {*expected, "C", "last"} == set(names)


def test_near_duplicates_point_to_the_first(tmp_path):
    words = " ".join(f"word{i}" for i in range(60))
    (tmp_path / "a.py").write_text(
        "\n".join(f'def f{i}():\n    """Do it {i} times. {words}"""' for i in range(9))
    )
    texts = [docstring.text for docstring in parse_docstrings(tmp_path / "a.py")]
    assert first_near_duplicates(texts).tolist() == [0] * 9


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
