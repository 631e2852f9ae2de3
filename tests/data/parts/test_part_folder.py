"""A token store in parts: that of one process, whoever writes the parts and however often they are killed."""

import json
import random
import shutil
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from conftest import text_of

from gptexp.data.corpora import open_corpus
from gptexp.data.parts import units as units_module
from gptexp.data.parts.part_folder import PartFolder
from gptexp.errors import UserError
from gptexp.files import loads_checked
from gptexp.tasks.prepare import prepare
from gptexp.tasks.task import make_task

FILES = (
    "task=pretrain",
    "data=files",
    "data.path=docs",
    "data.split=exact",
    "data.val_fraction=0.1",
)
SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def docs(own_folder, monkeypatch):
    """Files of lines, of which two hold no text."""
    monkeypatch.setattr(units_module, "UNIT_BYTES", (4000, 4000))
    rng = random.Random(0)
    (own_folder / "docs").mkdir()
    for number in range(3):
        rows = [{"text": text_of(rng, 20)} for _ in range(60)] + [{"other": "x"}] * (number > 0)
        lines = "\n".join(map(json.dumps, rows))
        (own_folder / "docs" / f"{number}.jsonl").write_text(lines)


@pytest.fixture
def open_parts(tiny, own_folder):
    compose = cache(lambda *words: tiny(*FILES, "tokenizer=byte", *words))

    def open_parts(name="parts", *words):
        config = compose(*words)
        layout = make_task(config.task, config.model).layout
        corpus = open_corpus(config.data, layout.fields, own_folder / "cache")
        return PartFolder(own_folder / name, corpus, layout, config.data, config.tokenizer)

    return open_parts


def write_all(folder):
    for _ in folder.write_missing(range(len(folder.units))):
        pass
    folder.merge()


def fingerprint(folder):
    return loads_checked((folder.path / "meta.json").read_text())["fingerprint"]


@pytest.mark.parametrize(
    "words", [["tokenizer=byte"], ["tokenizer=bpe", "tokenizer.vocab_size=300"]]
)
def test_parts_are_the_store_that_one_process_would_write(words, tiny, open_parts):
    expected = prepare(tiny(*FILES, *words)).store
    folder = open_parts("parts", *words)
    assert len(folder.units) > 5
    write_all(folder)
    moved = Path("moved")
    shutil.move(folder.path, moved)
    store = prepare(tiny("task=pretrain", "data=tokens", f"data.path={moved}")).store
    for split in SPLITS:
        assert store.tokens(split)[:].tolist() == expected.tokens(split)[:].tolist()
        assert store.meta["splits"][split] == expected.meta["splits"][split]
    assert store.account.summary() == expected.account.summary()
    assert store.account.left_out["no field 'text'"].count == 2


def test_processes_that_are_killed_go_on_where_they_were(open_parts, monkeypatch):
    write_all(folder := open_parts("uninterrupted"))
    expected = fingerprint(folder)
    times = {}
    for _ in range(len(folder.units)):  # each is killed in the middle of its second part
        killed = open_parts("killed")
        encoder, calls = type(killed.encoder), []

        def encode(self, examples, tokenizer, plain=encoder.encode, calls=calls):
            calls.append(None)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return plain(self, examples, tokenizer)

        with monkeypatch.context() as patched:
            patched.setattr(encoder, "encode", encode)
            try:
                write_all(killed)
            except KeyboardInterrupt:
                assert not killed.is_store
        for file in (killed.path / "parts").glob("*.tokens"):
            assert times.setdefault(file.name, file.stat().st_mtime_ns) == file.stat().st_mtime_ns
    assert fingerprint(killed) == expected


def test_shares_of_a_job_array_make_one_store_in_any_order(open_parts):
    write_all(expected := open_parts("uninterrupted"))
    for start in (1, 0):
        folder = open_parts("shares")
        assert not folder.is_store
        assert list(folder.write_missing(range(start, len(folder.units), 2)))
    assert not folder.missing()
    folder.merge()
    assert fingerprint(folder) == fingerprint(expected)


def test_a_part_that_another_process_writes_is_left_to_it(open_parts):
    ours, theirs = open_parts(), open_parts()
    numbers = theirs.write_missing(range(len(theirs.units)))
    with theirs._claim(1):
        written = list(ours.write_missing(range(3)))
    assert written == [0, 2]
    assert next(numbers) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.val_fraction=0.2"], "begun with other settings of data"),
        (["tokenizer=char"], "begun with other settings of tokenizer"),
        (["task.answers=true"], "begun with other settings of the task"),
        (["data.val_path=docs/0.jsonl"], "begun with other input files and settings of data"),
    ],
)
def test_a_folder_that_was_begun_otherwise_is_refused(words, message, open_parts):
    open_parts()
    with pytest.raises(UserError, match=message):
        open_parts("parts", *words)


def test_a_folder_with_other_files_is_refused(open_parts, own_folder):
    (own_folder / "parts").mkdir()
    (own_folder / "parts" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files \(notes\.txt\)\. Give a new folder"):
        open_parts()


def test_a_damaged_part_is_named(open_parts):
    folder = open_parts()
    list(islice(folder.write_missing(range(len(folder.units))), None))
    part = folder.path / "parts" / "000001.train.tokens"
    part.write_bytes(part.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"000001\.json: damaged .*000001\.train\.tokens has"):
        folder.merge()
