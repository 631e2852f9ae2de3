import json
from dataclasses import asdict

import pytest

from gptexp.tasks.prepare import prepare
from gptexp.tasks.token_view import view_sequences


@pytest.fixture
def view(tiny, own_folder):
    """Prepare rows for a task, and view the first training sequence."""

    def call(task, row, *overrides):
        path = own_folder / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for _ in range(4)))
        data = prepare(
            tiny(
                f"task={task}",
                "data=files",
                f"data.path={path}",
                "tokenizer=char",
                "data.val_fraction=0",
                "data.test_fraction=0",
                "init=scratch",
                *overrides,
            )
        )
        return next(view_sequences(data, "train", 1, 0))

    return call


def test_an_answer_carries_the_loss(view):
    pair = view("translate", {"source": "ab", "target": "cd"}, "task.max_target_tokens=9")
    assert pair.input == "ab<|sep|>"
    assert pair.targets == "cd<|endoftext|>"
    assert "6 tokens, 3 carry a loss" in pair.text(colour=False)
    assert "a|b|<|sep|>|[[c|d|<|endoftext|>]]" in pair.text(colour=False)
    assert "\033[32mc\033[0m" in pair.text(colour=True)
    assert "[[" not in pair.text(colour=True)
    assert json.loads(json.dumps(asdict(pair)))["tokens"][3] == {
        "text": "c",
        "target": "c",
        "is_special": False,
    }


def test_all_but_the_first_token_of_a_text_carry_a_loss(view):
    text = view("pretrain", {"text": "abcd\n" * 20}, "task.max_new_tokens=4")
    assert len(text.tokens) == 33
    assert "33 tokens, 32 carry a loss" in text.text(colour=False)
    assert text.tokens[0].target is None
    assert all(token.target == token.text for token in text.tokens[1:])
    assert "\\n" in text.text(colour=False)


def test_tags_masks_and_classes_are_named(view):
    tags = view("extract", {"source": "a bc d", "terms": "bc"})
    assert "a => outside|  => outside|b => first|c => inside" in tags.text(colour=False)
    assert not tags.targets
    masks = view("mlm", {"text": "abcd" * 20}, "task.mask_fraction=0.5")
    masked = [token for token in masks.tokens if token.text == "<|mask|>"]
    assert masked
    assert all(token.target in tuple("abcd") for token in masked)
    halves = view("nsp", {"text": "The first one is long enough. The second one is long as well."})
    assert halves.label in ("next", "elsewhere")
    assert f"class    {halves.label}" in halves.text(colour=False)


def test_a_long_sequence_is_shortened(view):
    text = view("pretrain", {"text": "abcd" * 200}, "model.context=400").text(colour=False)
    assert "... 321 more tokens ..." in text
    assert "ab ... " in text


def test_frames_and_patches_are_counted_not_listed(tiny):
    data = prepare(tiny("task=caption", "data=scenes", "data.examples=100", "model.context=64"))
    view = next(view_sequences(data, "train", 1, 0))
    assert "<16 x features>|<|sep|>|[[" in view.text(colour=False)
