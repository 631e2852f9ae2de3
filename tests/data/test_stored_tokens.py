"""data=tokens: a run on a machine that has the token store, and not the texts."""

import shutil

import numpy as np
import pytest
from conftest import WORDS

from gptexp.config import compose
from gptexp.data.corpora import open_corpus
from gptexp.errors import UserError
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


def test_a_command_that_reads_texts_refuses_tokens(own_folder):
    config = compose.compose_config(["task=pretrain", "data=tokens", "data.path=carried"])
    with pytest.raises(UserError, match="holds token numbers, and this command reads texts"):
        open_corpus(config.data, ("text",), own_folder)
