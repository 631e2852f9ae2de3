"""The units of work of a large input: every record is in one of them, in the order of the input."""

import gzip
import json
import os
import random
from itertools import pairwise

import pyarrow
import pyarrow.parquet
import pytest
from conftest import sentence

from gptexp.data.corpora import open_corpus
from gptexp.data.corpora.json_records import read_line_range
from gptexp.data.parts import units as units_module
from gptexp.data.parts.units import open_unit, plan_units
from gptexp.errors import UserError


@pytest.fixture
def small_units(monkeypatch):
    monkeypatch.setattr(units_module, "UNIT_BYTES", (4000, 4000))
    monkeypatch.setattr(units_module, "UNIT_ROWS", (50, 50))


def make_texts(count, seed=0):
    rng = random.Random(seed)
    return [f"{sentence(rng)} {number} é" for number in range(count)]


def as_lines(texts):
    return "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts)


def corpus_of(tiny, own_folder, *words):
    config = tiny("task=pretrain", *words)
    return open_corpus(config.data, ("text",), own_folder / "cache")


def texts_of(corpus, unit):
    return [example.fields["text"] for example in open_unit(corpus, unit)]


@pytest.mark.parametrize("bounds", [[0, 1, 40, 41, 200, 999], [0, 500], [0, 999]])
def test_ranges_of_bytes_that_meet_give_every_line_once(bounds, own_folder):
    texts = make_texts(12)
    (own_folder / "a.jsonl").write_text(as_lines(texts))
    size = (own_folder / "a.jsonl").stat().st_size
    bounds = [min(bound, size) for bound in bounds] + [size]
    read = [
        record["text"]
        for start, stop in pairwise(bounds)
        for _, record in read_line_range(own_folder / "a.jsonl", start, stop, ["text"])
    ]
    assert read == texts


def test_a_line_of_a_range_that_is_no_json_is_named_by_its_first_byte(own_folder):
    (own_folder / "a.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(UserError, match=r"a\.jsonl, byte 14: not JSON"):
        list(read_line_range(own_folder / "a.jsonl", 0, 24, ["text"]))


@pytest.mark.usefixtures("small_units")
def test_large_files_are_cut_and_small_ones_are_taken_together(tiny, own_folder):
    texts = make_texts(500)
    folder = own_folder / "docs"
    folder.mkdir()
    (folder / "a.jsonl").write_text(as_lines(texts[:200]))  # 20 kB
    with gzip.open(folder / "b.jsonl.gz", "wt") as stream:  # cannot be read from its middle
        stream.write(as_lines(texts[200:300]))
    rows = pyarrow.Table.from_pylist([{"text": text} for text in texts[300:480]])
    pyarrow.parquet.write_table(rows, folder / "c.parquet", row_group_size=20, compression="none")
    for number in range(480, 500):
        (folder / f"d{number}.txt").write_text(texts[number])
    corpus = corpus_of(tiny, own_folder, "data=files", f"data.path={folder}")
    units = plan_units(corpus)
    assert [text for unit in units for text in texts_of(corpus, unit)] == texts
    names = [{piece.name.rsplit("/", 1)[-1][0] for piece in unit.pieces} for unit in units]
    assert [names.count({kind}) > 2 for kind in "abc"] == [True, False, True]
    assert names.count({"d"}) < 4  # 20 text files
    assert max(len(texts_of(corpus, unit)) for unit in units if unit.pieces[0].stop) < 80


@pytest.mark.usefixtures("small_units")
def test_objects_over_several_lines_are_not_cut(tiny, own_folder):
    texts = make_texts(100)
    objects = [json.dumps({"text": text}, indent=1, ensure_ascii=False) for text in texts]
    (own_folder / "a.jsonl").write_text("\n".join(objects))
    corpus = corpus_of(tiny, own_folder, "data=files", "data.path=a.jsonl")
    [unit] = plan_units(corpus)
    assert texts_of(corpus, unit) == texts


@pytest.mark.usefixtures("small_units")
def test_held_out_files_have_units_of_their_own(tiny, own_folder):
    (own_folder / "a.jsonl").write_text(as_lines(make_texts(5)))
    (own_folder / "v.jsonl").write_text(as_lines(make_texts(5, seed=1)))
    words = ("data=files", "data.path=a.jsonl", "data.val_path=v.jsonl")
    corpus = corpus_of(tiny, own_folder, *words)
    units = plan_units(corpus)
    assert [unit.split for unit in units] == ["train", "val"]
    assert {example.split for example in open_unit(corpus, units[1])} == {"val"}


@pytest.mark.parametrize("change", ["longer", "as long", "deleted", "while it is read"])
def test_a_file_that_was_changed_since_the_units_were_planned_is_refused(change, tiny, own_folder):
    file = own_folder / "a.jsonl"
    file.write_text(as_lines(make_texts(5)))
    corpus = corpus_of(tiny, own_folder, "data=files", "data.path=a.jsonl")
    [unit] = plan_units(corpus)
    examples = iter(open_unit(corpus, unit)) if change == "while it is read" else None
    if change == "deleted":
        file.unlink()
    else:
        file.write_text(as_lines(make_texts(6 if change == "longer" else 5)))
        os.utime(file, ns=(0, 1))
    message = "cannot be read now" if change == "deleted" else "was changed since the parts were"
    with pytest.raises(UserError, match=rf"a\.jsonl: .*{message}"):
        list(examples or open_unit(corpus, unit))


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("streaming", ["true", "false"])
def test_a_data_set_has_a_unit_for_each_shard_or_some_rows(streaming, tiny, own_folder):
    texts = make_texts(240)
    (own_folder / "set").mkdir()
    for number in range(3):
        lines = as_lines(texts[80 * number : 80 * number + 80])
        (own_folder / "set" / f"train-{number}.jsonl").write_text(lines)
    words = ("data=hub", f"data.name={own_folder}/set", f"data.streaming={streaming}")
    corpus = corpus_of(tiny, own_folder, *words)
    units = plan_units(corpus)
    assert len(units) == (3 if streaming == "true" else 5)
    assert [text for unit in units for text in texts_of(corpus, unit)] == texts
    assert {example.split for example in open_unit(corpus, units[0])} == {None}


def test_a_source_without_files_is_refused(tiny, own_folder):
    config = tiny("task=translate", "data=cldr")
    corpus = open_corpus(config.data, ("source", "target"), own_folder)
    with pytest.raises(UserError, match="reads data=files and data=hub"):
        plan_units(corpus)
