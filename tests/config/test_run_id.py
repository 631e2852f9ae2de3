import ast
from pathlib import Path

import pytest

from gptexp.config import compose, run_id
from gptexp.config.source import normalized_source


def an_id(*overrides: str) -> str:
    return run_id.run_id(compose.compose_config(["task=translate", *overrides]))


@pytest.mark.parametrize(
    "change",
    [
        "seed=2",
        "optim.lr=0.1",
        "data.tgt=fr",
        "model=small",
        "trainer.max_steps=7",
        "init_digest=x",
    ],
)
def test_the_id_changes_with_what_changes_the_result(change):
    assert an_id() != an_id(change)


@pytest.mark.parametrize(
    "change",
    [
        "logger=none",
        "outputs=elsewhere",
        "trainer.num_workers=2",
        "trainer.progress=false",
        "name=x",
        "tags=[a]",
    ],
)
def test_the_id_stays_with_what_does_not(change):
    assert an_id() == an_id(change)


def test_comments_and_docstrings_do_not_count_as_code(tmp_path: Path):
    texts = [
        '"""One."""\ndef f(x):\n    """Doc."""\n    return x  # why\n',
        "def f(x):\n    return x\n",
        "def f(x):\n    return -x\n",
    ]
    meanings = []
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.py"
        path.write_text(text)
        meanings.append(normalized_source(path))
    assert meanings[0] == meanings[1] != meanings[2]
    assert ast.parse(texts[0])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("-devices2-strategyfsdp", "-devices2-strategyfsdp"),
        ("-initoutputs/pretrain-nano", "-initoutputs_pretrain-nano"),
        ("-namegrößer", "-namegrößer"),
        ("-name?", "-name_-"),
        ("-name[a]", "-name_a_-"),
        ("-name" + 300 * "ö", "-name" + 37 * "ö"),
    ],
)
def test_names_of_folders_are_legal_and_short(text, name):
    assert run_id.as_file_name(text).startswith(name)
    assert len(run_id.as_file_name(text).encode()) < 100
    assert run_id.as_file_name(text) != run_id.as_file_name(f"{text}*")


def test_a_model_of_any_name_has_a_folder_of_its_own(tiny):
    assert "/" not in run_id.folder_name(tiny("model.size=a/b"))
    assert len(run_id.folder_name(tiny(f"model.size={300 * 'x'}"), suffix=300 * "y")) < 255
