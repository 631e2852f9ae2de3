"""data=tokens: a run on a machine that has the token store, and not the texts."""

import shutil

import numpy as np
import pytest
from conftest import WORDS

from gptexp.config import compose
from gptexp.data.corpora import open_corpus
from gptexp.errors import UserError
from gptexp.files import dumps_with_checksum, loads_checked
from gptexp.tasks.prepare import prepare

TASK = ("task=pretrain", "task.answers=true", "task.packing=best_fit")


@pytest.fixture
def carried(tiny, own_folder, text_file):
    """A token store in a folder of its own; its texts are gone."""
    (own_folder / "rows.jsonl").write_text(
        "".join(
            f'{{"text": "{line}", "answer": "river"}}\n'
            for line in text_file.read_text().splitlines()
        )
    )
    store = prepare(
        tiny(*TASK, "data=files", "data.path=rows.jsonl", "data.split=exact", "tokenizer=byte")
    ).store
    shutil.move(store.folder, own_folder / "carried")
    (own_folder / "rows.jsonl").unlink()
    shutil.rmtree(own_folder / "cache")
    return own_folder / "carried"


def test_a_run_reads_the_tokens_of_a_store_that_another_machine_has_built(tiny, carried):
    data = prepare(tiny(*TASK, "data=tokens", f"data.path={carried}"))
    assert data.store.folder == carried
    windows = data.task.layout.dataset(data.store, "train", 1)
    batch = windows.batch(np.arange(2), 0, np.arange(2))
    words = data.store.tokenizer.decode(batch.tokens[0].tolist()).split()
    assert set(words[1:-1]) & set(WORDS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.context=64",), r"made for .*context 32; this run needs .*context 64"),
        (("task.answers=false",), r"this run needs layout text eos\. Give the task"),
        (("init=base",), "another tokenizer than the weights that the run starts from"),
    ],
)
def test_a_store_for_another_task_or_tokenizer_is_refused(words, message, tiny, carried):
    config = tiny(*TASK, "data=tokens", f"data.path={carried}", *words[:1])
    tokenizer_file = None
    if words == ("init=base",):
        from gptexp.config.base_weights import FOLDER

        config.init_digest, tokenizer_file = "some weights", FOLDER / "tokenizer.json"
    with pytest.raises(UserError, match=message):
        prepare(config, tokenizer_file)


@pytest.mark.parametrize("damage", ["deleted", "changed", "no meta"])
def test_a_store_with_missing_or_changed_files_is_refused_by_name(damage, tiny, carried):
    file = carried / ("meta.json" if damage == "no meta" else "train.tokens")
    if damage == "changed":
        file.write_bytes(b"\0" + file.read_bytes()[1:])
    else:
        file.unlink()
    with pytest.raises(UserError, match=rf"is not a complete token store \({file.name}: "):
        prepare(tiny(*TASK, "data=tokens", f"data.path={carried}"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": None}, None),
        ({"task": None}, None),
        ({"dtype": ...}, "has no 'dtype'"),
        ({"files": ...}, "has no 'files'"),
        ({"splits": {"train": {}}}, "has no 'sequences'"),
    ],
)
def test_a_store_of_another_version_is_refused(change, message, tiny, carried):
    rewrite_meta(carried, change)
    with pytest.raises(UserError, match=rf"no token store .* reads \(meta.json: {message or ''}"):
        prepare(tiny(*TASK, "data=tokens", f"data.path={carried}"))


def test_a_store_that_is_older_than_a_split_is_read_without_it(tiny, carried):
    splits = loads_checked((carried / "meta.json").read_text())["splits"]
    rewrite_meta(carried, {"splits": {name: splits[name] for name in ("train", "val", "test")}})
    store = prepare(tiny(*TASK, "data=tokens", f"data.path={carried}")).store
    assert store.has("train")
    assert not store.has("unsupported")


def rewrite_meta(folder, change):
    """Change fields of meta.json; a value of ... deletes one."""
    meta = {**loads_checked((folder / "meta.json").read_text()), **change}
    kept = {name: value for name, value in meta.items() if value is not ...}
    (folder / "meta.json").write_text(dumps_with_checksum(kept))


def test_a_limit_that_only_a_new_store_could_follow_is_refused(tiny):
    with pytest.raises(UserError, match=r"data\.limit=9: data=tokens trains on all examples"):
        tiny(*TASK, "data=tokens", "data.path=carried", "data.limit=9")


def test_a_task_that_needs_texts_is_not_told_to_use_tokens(own_folder):
    config = compose.compose_config(["task=pretrain", "data=cldr"])
    with pytest.raises(UserError, match="data=files") as refusal:
        open_corpus(config.data, ("text",), own_folder)
    assert "data=tokens" not in str(refusal.value)


def test_a_command_that_reads_texts_refuses_tokens(own_folder):
    config = compose.compose_config(["task=pretrain", "data=tokens", "data.path=carried"])
    with pytest.raises(UserError, match="holds token numbers, and this command reads texts"):
        open_corpus(config.data, ("text",), own_folder)
