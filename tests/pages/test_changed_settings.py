"""What was changed in the settings of a run."""

import pytest
from conftest import TINY

from gptexp.pages.changed_settings import _compose, find_changes


def settings_of(words):
    """The settings that words compose, by dotted key, as config.yaml has them; equal words are composed once."""
    return _compose(tuple(words))


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["task=translate", "model=small", "optim=adamw"], set()),
        (
            ["task=translate", "seed=3", "optim.lr=0.5", "name='a, \\'b\\''", "tags=[x,'y z']"],
            {"seed", "optim.lr", "name", "tags"},
        ),
        (
            [*TINY, "task=pretrain", "data=files", "data.path=a b.txt"],
            {"model.layers", "model.d_model", "model.heads", "model.context", "data.path"},
        ),
        (["task=translate", "model.d_ff=64", "model.dropout=0.1"], {"model.d_ff", "model.dropout"}),
    ],
)
def test_changes_are_named_without_what_follows_from_them_and_compose_the_run_again(words, changed):
    settings = settings_of(words)
    changed_settings = find_changes(settings)
    assert {change.key for change in changed_settings.changes} == changed
    assert settings_of(changed_settings.words()) == settings


def test_settings_that_nothing_composes_here_have_no_changes():
    changed = find_changes({"task.kind": "gone", "optim.kind": "adamw", "optim.lr": -1})
    assert changed.choices == {"optim": "adamw"}
    settings = settings_of(["task=translate"]) | {"data.kind": "tokens", "tokenizer.kind": "char"}
    assert find_changes(settings).words() is None
