"""Training, loading and asking models from Python."""

import os
import signal
from pathlib import Path

import lightning as L
import pytest
import torch
from published import write_llama

from gptexp import GPT, Config, compose_config, generate, load, train
from gptexp.errors import UserError
from gptexp.generation.prompt import Prompt

MODEL = [
    "model=nano",
    "model.layers=1",
    "model.d_model=32",
    "model.heads=2",
    "model.context=64",
    "tokenizer=byte",
]
QUICK = [
    "trainer.max_steps=4",
    "trainer.global_batch_size=4",
    "trainer.progress=false",
    "logger=none",
    "task.samples=0",
]
FAST = [*MODEL, *QUICK]
SENTENCES = [
    "The river runs under the old bridge.",
    "A bird falls from the tree.",
    "Slow light over the house.",
]
PAIRS = [("one two three", "two")] * 8


class Listed(torch.utils.data.Dataset):
    """As in the tutorials: a length, and an item a number that is not checked."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number % len(self.items)]


def test_a_few_sentences_train_a_model_that_goes_on_from_a_text():
    model = GPT.from_dataset(SENTENCES, *FAST)
    texts = model.generate("The river", max_length=30, num_return_sequences=3)
    assert len(set(texts)) == 3
    assert all(text.startswith("The river") for text in texts)
    ids = model.encode("The river")
    assert (
        model.decode(model.generate(ids, max_length=30)[0])
        == model.generate("The river", max_length=30)[0]
    )
    before = model.model.embedding.weight.clone()
    folder = model.train_on_dataset(
        Listed(SENTENCES), "trainer.max_steps=2", "trainer.progress=false", "logger=none"
    )
    assert folder.result()["steps"] == 2
    assert folder.name.startswith("pretrain-nano-")
    assert not torch.equal(model.model.embedding.weight, before)
    assert load(folder).generate("A bird") == model.generate("A bird")


@pytest.mark.parametrize(
    ("data", "method"),
    [(PAIRS, "summarize"), ([{"source": "one two", "terms": "two"}] * 8, "extract")],
)
def test_pairs_and_terms_train_the_task_that_they_are_for(data, method):
    model = GPT.from_dataset(data, *FAST, "task.max_target_tokens=8")
    answers = getattr(model, method)(["one two three", "two"])
    assert answers == [getattr(model, method)("one two three"), getattr(model, method)("two")]
    assert answers == model(["one two three", "two"]) == [model("one two three"), model("two")]
    with pytest.raises(UserError, match=r"not for translate.*task=translate"):
        model.translate("one")
    with pytest.raises(UserError, match="answers texts"):
        model(5)


def test_training_from_python_is_the_run_of_the_command():
    command = [*FAST, "task=translate", "init=scratch", "task.max_target_tokens=8"]
    run = train(command, dataset=PAIRS)
    config = run.config()
    assert run.name == train(config).name  # the same run, which is finished
    config.trainer.max_steps = 2
    shorter = train(config)
    assert shorter.result()["steps"] == 2
    assert shorter.name != run.name
    assert load(run.path)("one two") == load(run)("one two")


def test_a_config_trains_on_a_data_set_with_its_own_steps():
    config = compose_config(
        [*FAST, "init=scratch", "data=files", "data.path=other.txt", "task=pretrain"]
    )
    run = train(config, dataset=SENTENCES)
    assert run.result()["steps"] == 4
    assert config.data.path.endswith("other.txt")  # the caller's config stays as it is


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": "many"}, "max_steps|Integer"),
        ({"max_steps": 0}, r"trainer.max_steps=0: must be at least 1"),
        ({"strategy": "all"}, r"trainer.strategy=all: not known"),
    ],
)
def test_a_config_is_checked_before_it_is_used(changes, message):
    config = compose_config(
        [*FAST, "init=scratch", "data=files", "data.path=other.txt", "task=pretrain"]
    )
    for name, value in changes.items():
        setattr(config.trainer, name, value)
    with pytest.raises(UserError, match=message):
        train(config)


def test_a_single_override_is_no_list():
    with pytest.raises(UserError, match=r"train\(\['model=nano'\]\)"):
        train("model=nano")


class CountSteps(L.Callback):
    def __init__(self, every=1):
        self.every, self.count = every, 0

    def on_train_batch_end(self, trainer, module, *_):
        self.count += module.step % self.every == 0


class InterruptOnce(L.Callback):
    armed = True

    def on_train_batch_end(self, trainer, module, *_):
        if module.step == 2 and InterruptOnce.armed:
            InterruptOnce.armed = False
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_call_is_continued_by_the_same_call(capsys):
    command = [*FAST, "init=scratch", "task.max_target_tokens=8"]
    with pytest.raises(KeyboardInterrupt, match="which is saved; the same call continues"):
        train(command, dataset=PAIRS, callbacks=[InterruptOnce()])
    assert load("latest").model is not None  # what was trained is saved
    run = train(command, dataset=PAIRS, callbacks=[InterruptOnce()])
    assert "resuming at step 3 of 4" in capsys.readouterr().err
    assert run.result()["steps"] == 4


def test_callbacks_see_training_and_are_part_of_the_run():
    command = [*FAST, "init=scratch", "task.max_target_tokens=8"]
    callback = CountSteps(every=2)
    run = train(command, dataset=PAIRS, callbacks=[callback])
    assert callback.count == 2
    again = CountSteps(every=2)
    assert train(command, dataset=PAIRS, callbacks=[again]).path == run.path
    assert again.count == 0  # the run is finished
    others = [
        train(command, dataset=PAIRS, callbacks=callbacks).path
        for callbacks in ([], [CountSteps(every=1)])
    ]
    assert len({run.path, *others}) == 3
    assert train(run.config()).path not in {
        run.path,
        others[1],
    }  # its callbacks are not in the config
    with pytest.raises(UserError, match=r"devices=2 starts processes.*callbacks.NAME"):
        train([*command, "trainer.devices=2"], dataset=PAIRS, callbacks=[callback])


def test_plugins_are_named_in_the_call(own_folder, monkeypatch):
    monkeypatch.syspath_prepend(str(own_folder))
    Path("shout.py").write_text(
        "from dataclasses import dataclass\n"
        "from gptexp import TaskConfig, register\n"
        "from gptexp.config.schema import TextToTextConfig\n"
        "from gptexp.tasks.metrics import ExactMatch\n"
        "from gptexp.tasks.text_to_text import TextToText\n"
        "@register\n"
        "@dataclass\n"
        "class ShoutConfig(TextToTextConfig):\n"
        "    kind: str = 'shout'\n"
        "    target = 'shout:Shout'\n"
        "    max_target_tokens: int = 8\n"
        "class Shout(TextToText):\n"
        "    fields = ('words', 'loud')\n"
        "    metrics = (ExactMatch(),)\n"
    )
    (own_folder / "conf" / "task").mkdir(parents=True)
    (own_folder / "conf" / "task" / "shout.yaml").write_text("defaults: [base_shout, _self_]")
    data = [{"words": "one", "loud": "ONE"}, {"words": "two", "loud": "TWO"}] * 4
    run = train([*FAST, "task=shout", "init=scratch"], dataset=data, plugins=["shout"])
    assert run.config().task.kind == "shout"
    model = load(run)
    assert isinstance(model("one"), str)
    further = model.train_on_dataset(data, *QUICK)  # its own task, which fits the data
    assert further.config().task.kind == "shout"


def test_a_model_that_continues_texts_answers_with_text_and_continuation():
    model = GPT.from_dataset(SENTENCES, *FAST, "task.max_new_tokens=5")
    answer = model("The river")
    assert answer.startswith("The river")
    assert len(answer) > len("The river")
    assert model(["The river", "A bird"]) == [answer, model("A bird")]
    with pytest.warns(UserWarning, match=r"read input 1 as it is written: its beginning is cut by"):
        model(["The river", "The river " * 200])
    with pytest.warns(UserWarning, match=r"read the input .* <\|sep\|> is read as text"):
        model.generate("The <|sep|>", max_new_tokens=3)


def test_python_says_what_the_command_says(verb):
    model = GPT.from_dataset(SENTENCES, *FAST)
    [answer] = model.generate("The river", max_new_tokens=9)
    words = ("latest", "The river", "--max-new-tokens", 9, "--temperature", 0)
    assert verb(generate, *words) == answer.rstrip("\n")
    stop = answer[len("The river") + 1 :][:2]
    [ended] = model.generate("The river", max_new_tokens=9, stop_strings=[stop])
    assert ended == answer[: answer.index(stop, len("The river"))]
    for wrong, stops in (("The river", stop), ("The river", [""]), ([1, 2], [stop])):
        with pytest.raises(UserError, match="stop_strings"):
            model.generate(wrong, stop_strings=stops)


def test_token_numbers_are_answered_with_token_numbers(own_folder):
    write_llama(own_folder / "llama")
    for file in (own_folder / "llama").glob("*token*"):
        file.unlink()
    model = load("llama")
    [numbers] = model.generate([1, 2, 3], max_new_tokens=4)
    assert numbers[:3] == [1, 2, 3]
    assert len(numbers) <= 7
    answer = "1 2 3" + model.decode(numbers[3:])  # the prompt as it was given
    assert model.generate("1 2 3", max_new_tokens=4) == [answer]
    with pytest.raises(UserError, match="the model has no tokenizer"):
        model("the river")


def test_a_prompt_begins_as_the_published_tokenizer_says(own_folder):
    write_llama(own_folder / "llama")
    model = load("llama")
    prompt = model.task.layout.prompt("the river", model.tokenizer)
    assert prompt == Prompt((0, *model.encode("the river")))


def test_a_saved_model_can_be_saved_again_but_not_over_other_files(own_folder):
    model = GPT.from_dataset(PAIRS, *FAST, "task.max_target_tokens=8")
    model.save_pretrained("saved")
    model.save_pretrained("saved")
    assert load("saved")("one two") == model("one two")
    (own_folder / "notes").mkdir()
    (own_folder / "notes" / "ideas.txt").write_text("mine")
    with pytest.raises(UserError, match="ideas"):
        model.save_pretrained("notes")


def test_options_that_make_no_sense_are_refused():
    model = GPT.from_dataset(SENTENCES, *FAST)
    with pytest.raises(UserError, match="top_p=2"):
        model.generate("The river", num_return_sequences=2, top_p=2)
    with pytest.raises(UserError, match="warmth"):
        model.generate("The river", warmth=1)


def test_settings_and_types_are_public():
    import gptexp

    assert Config is gptexp.Config
    for name in gptexp.__all__:
        assert getattr(gptexp, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        gptexp.Nothing  # noqa: B018
