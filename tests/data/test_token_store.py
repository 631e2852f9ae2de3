import json
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from gptexp.config import compose
from gptexp.errors import UserError
from gptexp.loss import LossCounts, LossSums
from gptexp.tasks.prepare import prepare


def test_the_store_gives_back_the_text_split_by_content(tiny, text_file):
    store = prepare(
        tiny("task=pretrain", "data=files", f"data.path={text_file}", "data.split=tail")
    ).store
    parts = [
        store.tokenizer.decode(store.tokens(split)[:].tolist())
        for split in ("train", "val", "test")
    ]
    assert "".join(parts) == text_file.read_text()
    assert [
        abs(len(part) / len("".join(parts)) - share) < 0.01
        for part, share in zip(parts, (0.9, 0.05, 0.05), strict=True)
    ]


def test_no_source_is_in_two_splits(tiny, pairs_file, capsys):
    rows = pairs_file.read_text().splitlines()
    again = [
        json.dumps(json.loads(row) | {"target": "ANOTHER"}) for row in rows
    ]  # each source has two targets
    pairs_file.write_text("\n".join([*rows, *again, '{"source": "nothing", "target": " "}']))
    prepared = prepare(
        tiny("task=translate", "data=files", f"data.path={pairs_file}", "task.max_target_tokens=10")
    )
    task, store = prepared.task, prepared.store
    assert "left out    1: the field 'target' is empty" in capsys.readouterr().err
    sources = {split: {e["source"] for e in store.examples(split)} for split in ("val", "test")}
    assert sources["val"]
    assert sources["test"]
    assert not sources["val"] & sources["test"]
    train = task.layout.dataset(store, "train", 1)
    index = store.index("train")
    texts = {
        store.tokenizer.decode(store.tokens("train")[o : o + p - 1].tolist())
        for o, _, p, *_ in index
    }
    assert not texts & (sources["val"] | sources["test"])
    assert len(train) == len(index) == store.meta["splits"]["train"]["sequences"]


def test_the_second_run_opens_what_the_first_built_and_other_settings_do_not(tiny, text_file):
    words = ("task=pretrain", "data=files", f"data.path={text_file}")
    first = prepare(tiny(*words)).store
    changed = os.stat(first.folder / "train.tokens").st_mtime_ns
    assert os.stat(prepare(tiny(*words)).store.folder / "train.tokens").st_mtime_ns == changed
    assert prepare(tiny(*words, "tokenizer=byte")).store.fingerprint != first.fingerprint
    text_file.write_text(text_file.read_text().replace("stone", "pebble"))
    assert prepare(tiny(*words)).store.fingerprint != first.fingerprint


def _build(path: str) -> None:
    prepare(
        compose.compose_config(
            ["task=pretrain", "model=nano", "data=files", f"data.path={path}", "data.split=exact"]
        )
    )


def test_two_builders_and_a_killed_one_leave_one_whole_store(text_file, own_folder):
    text_file.write_text(text_file.read_text() * 40)
    spawn = multiprocessing.get_context("spawn")
    killed = spawn.Process(target=_build, args=(str(text_file),))
    killed.start()
    folder = own_folder / "cache" / "store"
    deadline = time.monotonic() + 60
    while not list(folder.glob("*.tmp")):
        assert killed.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert not list(folder.glob("*/meta.json"))
    both = [spawn.Process(target=_build, args=(str(text_file),)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    [meta] = folder.glob("*/meta.json")
    counts = json.loads(meta.read_text())["splits"]
    size = sum((meta.parent / f"{split}.tokens").stat().st_size for split in counts)
    assert size == 2 * sum(count["tokens"] for count in counts.values())


def test_a_limit_leaves_what_is_held_out(tiny, pairs_file):
    val = pairs_file.with_name("val.jsonl")
    val.write_text(
        "".join(json.dumps({"source": f"held out {i}", "target": "x"}) + "\n" for i in range(50))
    )
    store = prepare(
        tiny(
            "task=translate",
            "data=files",
            f"data.path={pairs_file}",
            f"data.val_path={val}",
            "data.test_fraction=0",
            "data.limit=100",
            "task.max_target_tokens=10",
        )
    ).store
    counts = {split: count["sequences"] for split, count in store.meta["splits"].items()}
    assert counts == {"train": 100, "val": 50, "test": 0, "unseen": 0, "unsupported": 0}


def test_no_document_runs_into_another_where_a_text_is_split(tiny, text_file):
    store = prepare(
        tiny("task=pretrain", "data=files", f"data.path={text_file}", "tokenizer=char")
    ).store
    text = text_file.read_text()
    for split in ("train", "val", "test"):
        tokens = store.tokens(split)[:]
        ends = np.flatnonzero(tokens == store.tokenizer.eos)
        assert ends[-1] == len(tokens) - 1
        assert all(
            store.tokenizer.decode(part.tolist()) in text for part in np.split(tokens, ends + 1)
        )


def test_unknown_characters_are_counted(tiny, text_file):
    prepared = prepare(
        tiny(
            "task=pretrain",
            "data=files",
            f"data.path={text_file}",
            "tokenizer=char",
            "data.split=tail",
        )
    )
    text_file.write_text(text_file.read_text()[:-1000] + "日" * 1000)
    other = prepare(
        tiny(
            "task=pretrain",
            "data=files",
            f"data.path={text_file}",
            "tokenizer=char",
            "data.split=tail",
        )
    )
    assert prepared.store.meta["splits"]["test"]["lost_bytes"] == 0
    assert other.store.meta["splits"]["test"]["lost_bytes"] == 3000
    assert other.store.meta["account"]["text"]["unknown"]["characters"] == {"日": 1000}
    bits = LossSums(torch.tensor(5000 * math.log(2)), *torch.zeros(2))
    counts = LossCounts(targets=len(other.store.tokens("test")) - 1)
    figures = other.task.loss_metrics(other.store, "test", bits, counts)
    encoded = other.store.meta["splits"]["test"]["bytes"] - 3000
    assert figures["bits_per_byte"] == pytest.approx(5000 / encoded)
    assert figures["encoded_fraction"] == pytest.approx(encoded / (encoded + 3000))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted", "emptied", "swapped"])
@pytest.mark.parametrize(
    "name", ["train.tokens", "train.index", "val.jsonl", "tokenizer.json", "meta.json"]
)
def test_a_damaged_store_is_named_and_built_again(name, damage, tiny, pairs_file, capsys):
    config = tiny(
        "task=translate", "data=files", f"data.path={pairs_file}", "task.max_target_tokens=10"
    )
    folder = prepare(config).store.folder
    file = folder / name
    before = file.read_bytes()
    match damage:
        case "truncated":
            file.write_bytes(before[:-2])
        case "flipped":
            file.write_bytes(before[:10] + bytes([before[10] ^ 1]) + before[11:])
        case "deleted":
            file.unlink()
        case "emptied":
            file.write_bytes(b"")
        case "swapped":
            file.write_bytes((folder / "val.tokens").read_bytes())
    assert prepare(config).store.folder == folder
    assert f"damaged token cache: {folder}" in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("too short", "tokens, shorter than one context of model.context=32"),
    ],
)
def test_too_little_text_is_refused_with_numbers(tiny, text, message):
    Path("small.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        prepare(tiny("task=pretrain", "data=files", "data.path=small.txt", "tokenizer=byte"))


def test_windows_of_a_held_out_pass_count_every_target_once(tiny, text_file):
    prepared = prepare(tiny("task=pretrain", "data=files", f"data.path={text_file}"))
    windows = prepared.task.layout.dataset(prepared.store, "val", None)
    tokens = prepared.store.tokens("val")
    seen = [windows.batch(np.array([i]), 0, np.array([i])).targets for i in range(len(windows))]
    assert [int(t) for row in seen for t in row[row >= 0]] == tokens[1:].tolist()


def test_training_windows_move_from_epoch_to_epoch(tiny, text_file):
    prepared = prepare(tiny("task=pretrain", "data=files", f"data.path={text_file}"))
    windows = prepared.task.layout.dataset(prepared.store, "train", 1)
    one, two = (windows.batch(np.arange(4), epoch, np.arange(4)) for epoch in (0, 1))
    assert not (one.tokens == two.tokens).all()
    assert (one.tokens[:, 1:] == one.targets[:, :-1]).all()
