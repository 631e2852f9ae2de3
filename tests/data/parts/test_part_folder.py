"""A token store in parts: that of one process, whoever writes the parts and however often they are killed."""

import json
import os
import random
import shutil
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import tokenizers
from conftest import text_of
from tokenizers.models import WordLevel

from gptexp.config import schema
from gptexp.data.corpora import open_corpus
from gptexp.data.parts import units as units_module
from gptexp.data.parts.part_folder import PartFolder
from gptexp.data.parts.plan import LOCK
from gptexp.data.tokenizers import UNK, Tokenizer, train_bpe
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


def test_parts_are_the_store_that_one_process_would_write(tiny, open_parts):
    words = ["tokenizer=bpe", "tokenizer.vocab_size=300"]
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


def test_a_folder_that_is_not_ours_is_refused_and_stays_as_it_is(open_parts, own_folder):
    for name in ("tokenizer.json", ".git"):
        (own_folder / name[-4:]).mkdir()
        (own_folder / name[-4:] / name).write_text("mine")
        with pytest.raises(UserError, match=rf"holds other files \({name}\)\. Give a new folder"):
            open_parts(name[-4:])
        assert [file.name for file in (own_folder / name[-4:]).iterdir()] == [name]


def test_a_process_that_was_killed_before_its_plan_is_followed_by_another(open_parts, own_folder):
    (own_folder / "parts").mkdir()
    (own_folder / "parts" / LOCK).touch()
    (own_folder / "parts" / "tokenizer.json").write_text("cut")
    assert open_parts().tokenizer.vocab_size == 260


def test_merging_removes_what_killed_processes_left_and_nothing_else(open_parts):
    folder = open_parts()
    parts = folder.parts
    (parts / ".git").mkdir()
    (parts / ".000009.notes").write_text("mine")
    (parts / ".000001.abc_1.tmp").mkdir()
    (parts / ".000002.json.77.tmp").write_text("cut")
    list(folder.write_missing(range(len(folder.units))))
    with open_parts()._claim(2):  # another process writes it again
        folder.merge()
    left = sorted(file.name for file in parts.iterdir() if file.name.startswith("."))
    assert left == [".000002.json.77.tmp", ".000002.lock", ".000009.notes", ".git"]


def test_an_input_or_a_tokenizer_that_was_changed_is_refused(open_parts):
    folder = open_parts()
    rows, time = Path("docs/1.jsonl").read_text(), Path("docs/1.jsonl").stat().st_mtime_ns
    Path("docs/1.jsonl").write_text(rows.swapcase())
    with pytest.raises(
        UserError, match=r"other input files: .*1\.jsonl \(size or time of the last"
    ):
        open_parts()
    Path("docs/1.jsonl").write_text(rows)
    os.utime("docs/1.jsonl", ns=(time, time))
    (folder.path / "tokenizer.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"tokenizer\.json: is not the tokenizer that the parts are"
    ):
        open_parts()


@pytest.mark.parametrize("damage", ["flipped", "deleted"])
def test_a_damaged_part_is_named_and_the_same_command_writes_it_again(damage, open_parts):
    folder = open_parts()
    list(folder.write_missing(range(len(folder.units))))
    part = folder.parts / "000001.train.tokens"
    content = part.read_bytes()
    if damage == "deleted":  # of a complete store
        folder.merge()
        part.unlink()
    else:
        part.write_bytes(content[:-2] + b"ab")
        with pytest.raises(UserError, match=r"000001\.json: this part is damaged .*train\.tokens"):
            folder.merge()
    again = open_parts()
    assert again.missing() == [1]
    write_all(again)
    assert part.read_bytes() == content


def test_a_tokenizer_that_knows_no_letter_of_the_texts_is_refused(tiny, own_folder):
    characters = Tokenizer(tokenizers.Tokenizer(WordLevel({UNK: 0, "1": 1}, unk_token=UNK)))
    config = tiny(*FILES, "tokenizer=byte")
    layout = make_task(config.task, config.model).layout
    corpus = open_corpus(config.data, layout.fields, own_folder / "cache")
    folder = PartFolder(
        own_folder / "parts", corpus, layout, config.data, config.tokenizer, characters
    )
    with pytest.raises(UserError, match="knows no letter of the field 'text' in the train split"):
        write_all(folder)


def test_a_run_says_what_is_missing_of_parts_and_what_is_damaged(tiny, open_parts):
    words = ("task=pretrain", "data=tokens", "data.path=parts")
    Path("other").mkdir()
    bpe = train_bpe(schema.BpeConfig(vocab_size=270), ["the river runs slow " * 20])
    bpe.save(Path("other/tokenizer.json"))
    folder = open_parts()
    list(islice(folder.write_missing(range(len(folder.units))), 2))
    missing = len(folder.units) - 2
    with pytest.raises(
        UserError, match=rf"{missing} of {missing + 2} parts are missing\. Repeat the"
    ):
        prepare(tiny(*words))
    write_all(folder)
    part = folder.parts / "000001.train.tokens"
    part.write_bytes(part.read_bytes()[:-2] + b"ab")
    with pytest.raises(UserError, match=r"tokenizer=hf: the store .* Leave tokenizer=\.\.\. out"):
        prepare(tiny(*words, "tokenizer=hf", "tokenizer.name=other"))
    store = prepare(tiny(*words, "tokenizer=byte", "data.val_fraction=0.2")).store
    assert store.account.remarks == [
        "data.val_fraction=0.2 is not used: the store has its own splits"
    ]
    tokens = store.tokens("train")
    with pytest.raises(
        UserError, match=r"000001\.train\.tokens: damaged: token 25,185 at position"
    ):
        tokens[:]
    part.unlink()
    with pytest.raises(
        UserError, match=r"000001\.train\.tokens: No such file.* Repeat the gptexp tok"
    ):
        prepare(tiny(*words))


def test_files_without_the_field_are_left_out_wherever_the_units_are_cut(open_parts):
    rows = [json.dumps({"content": "a text without the field"}) for _ in range(200)]
    Path("docs/0.jsonl").write_text("\n".join(rows))
    write_all(folder := open_parts())
    assert folder.account.left_out["no field 'text'"].count == 202
    for number in range(3):
        Path(f"docs/{number}.jsonl").write_text("\n".join(rows))
    with pytest.raises(UserError, match=r"no field 'text'. It has: content"):
        write_all(open_parts("other"))
