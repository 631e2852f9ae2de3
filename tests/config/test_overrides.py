"""The words of a command: texts may have any signs, and each mistake names the word to type."""

from pathlib import Path

import pytest

from gptexp.config import compose
from gptexp.config.grammar import find_override, quote
from gptexp.config.keys import known_keys
from gptexp.config.overrides import explain_option, read_overrides
from gptexp.config.package_data import GROUPS
from gptexp.config.renames import SYNONYMS
from gptexp.errors import UserError

FILES = ["task=summarize", "data=files"]


@pytest.fixture(autouse=True)
def _settings_are_known():
    compose.prepare_hydra([])


@pytest.mark.parametrize(
    "name",
    ["plan (1).txt", "it's.txt", "корпус.txt", "[draft].txt", "a=b.txt", "100% #1;&!.txt", "-x.txt", "{a}.txt",
     "日本.txt", "naïve “x” – y.txt", "a\u00a0b.txt", "50%", "a:b", "~x", "a\\b c(", "[a", "€,€"],
)  # fmt: skip
def test_a_text_may_have_any_signs(name):
    text = name if "," not in name else f'"{name}"'
    path = quote(name) if name[0] in "[{" else text  # brackets are a list or a template there
    words = [*FILES, f"name={text}", f"data.path={path}", f"tags=[{quote(name)}]"]
    config = compose.compose_config(words)
    assert (config.name, config.tags) == (name, [name])
    assert config.data.path == str(Path.cwd() / name)  # type: ignore[attr-defined]


def test_items_of_lists_and_sweeps_may_have_any_signs():
    assert read_overrides(["data.path=[корпус.en,it's (1).de]"]) == [
        "data.path=['корпус.en','it\\'s (1).de']"
    ]
    assert read_overrides(["data.path=корпус,b.txt"], is_sweep=True) == ["data.path='корпус',b.txt"]
    assert compose.compose_config(["name=${outputs}/plan (1)"]).name == "outputs/plan (1)"
    assert read_overrides(['name="a" ']) == ['name="a"']
    assert compose.compose_config(["outputs=~/x"]).outputs == str(Path.home() / "x")


def test_true_beside_other_choices_is_a_text_as_it_is_typed():
    assert read_overrides(["trainer.compile=True"]) == ["trainer.compile='true'"]
    for word in ("trainer.progress=False", "+unknown=true"):
        assert read_overrides([word]) == [word]
    for words in (["trainer.compile=true,auto"], ["trainer.compile='true',auto"]):
        assert read_overrides(words, is_sweep=True) == words  # the folders of jobs have their names


@pytest.mark.parametrize(
    "template", ["{title}", "{title}: {body}", "{last}, {first}", "Q: {title} (short)", "{a}\\n{b}"]
)
def test_a_template_is_a_text(template):
    config = compose.compose_config([*FILES, "data.path=3", f"data.fields.source={template}"])
    assert config.data.fields == {"source": template.replace("\\n", "\n")}  # type: ignore[attr-defined]
    assert config.data.path == str(Path.cwd() / "3")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optim.lr", "=", "0.01"], "optim.lr = 0.01: no blanks stand around =; type optim.lr=0.01"),
        (["optim.lr=", "0.01"], "type optim.lr=0.01"),
        (["optim.lr", "=0.01"], "type optim.lr=0.01"),
        (["seed =1"], "type seed=1"),
        (["seed==1"], "seed==1: has one = too many; type seed=1"),
        (["trainer.max_steps:", "3"], "type trainer.max_steps=3"),
        (["trainer.max_steps:", "seed=1"], "type trainer.max_steps=VALUE"),
        (["seed:1"], "seed:1: has : in place of =; type seed=1"),
        (["seed"], "seed: has no value; type seed=VALUE"),
        (["model"], "model: has no value; type model=NAME. Names: gpt2"),
        (["nano"], "nano: is no KEY=VALUE; type model=nano"),
        (["data.fields.source=my", "field"], "If it belongs to the word before it, type"),
        (["data.path=my", "file.txt"], "If it belongs to the word before it, type 'data.path=my file.txt'"),
        (["sead"], "sead: is no KEY=VALUE, such as seed=1. Did you mean 'seed'?"),
        (["=3"], "=3: is no KEY=VALUE"),
        (["~seed"], "seed cannot be removed"),
        (["model@data=nano"], "type model=nano"),
        (["model=small,nano"], "model=small,nano: several values make a sweep, which needs -m"),
        (["model=3"], "model=3: not known. Allowed: gpt2"),
        (["seed=1", "seed=x"], "seed=x: must be a whole number"),
        (["trainer.max_steps=1e3"], "must be a whole number, without a point or an exponent: 1000"),
        (["optim.lr=0,01"], "which needs -m; as a number: optim.lr=0.01"),
        (["name=a, b"], "which needs -m; as one text: 'name=\"a, b\"'"),
        (["trainer.max_steps=1,000"], "which needs -m; as a number: trainer.max_steps=1000"),
        (["trainer.max_steps=10k"], "must be a whole number; type trainer.max_steps=10000"),
        (["data.val_fraction=10%"], "must be a number; type data.val_fraction=0.1"),
        ([*FILES, "data.path=26=a,b.txt"], "as one text: 'data.path=\"26=a,b.txt\"'"),
        (["outputs="], "outputs=: is empty; give a folder"),
        (["TRAINER.MAX_STEPS=4"], "Did you mean 'trainer.max_steps'?"),
        (["optim.learning_rate=0.1"], "there is no key 'optim.learning_rate'; it is called 'optim.lr' here"),
        (["n_layer=3"], "it is called 'model.layers' here"),
        (["num_train_epochs=3"], "trainer.max_steps=N sets the length of a run"),
        (["fresh=ja"], "fresh=ja: must be true or false"),
        (["init="], "init=: is empty; give a text, or null for none"),
        (["callbacks=x"], "callbacks=x: there is no such choice"),
        (["seed=null"], "seed=null: cannot be null"),
        (["tags=a"], "tags=a: a list is needed: [a]"),
        (["tags={a:b}"], "tags={a:b}: a list is needed: [a,b]"),
        (["tags=[[a]]"], "tags=[[a]]: [a] must be a text, not a list"),
        (["tags=[a,b"], "the bracket [ is not closed; a value with several parts is 'tags=[a,b]'"),
        (['name="a'], "the quote \" is not closed; a text is 'name=\"a\"'"),
        (["model.rope_scaling={factor:[1,2]}"], "factor: [1,2] must be a number, not a list"),
        (["trainer.skip_steps=[1.5]"], "trainer.skip_steps=[1.5]: 1.5 must be a whole number"),
        (["trainer.precision=fp8"], "trainer.precision=fp8: not known. Allowed: 32, auto, bf16"),
        (["trainer.max_steps=0"], "trainer.max_steps=0: must be at least 1"),
        ([*FILES, "data.path=[[a]]"], "data.path=[[a]]: must be a text, or a list of texts"),
        ([*FILES, "data.path=null"], "data.path=null: cannot be null"),
        (["name=${oc.env:NOT_SET}/x"], "the environment variable NOT_SET is not set. Set it, or"),
        (["name=${sed}"], "there is no key 'sed'. Did you mean 'seed'?"),
        (["seed=${model.size}"], "seed=${model.size}: must be a whole number, and is 'small'"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_the_word_to_type(words, message):
    with pytest.raises(UserError) as error:
        compose.compose_config(words)
    assert message in str(error.value)
    assert error.value.__cause__ is None


def test_a_file_in_the_place_of_a_choice_of_data_is_explained(tmp_path):
    file = tmp_path / "corpus.txt"
    file.touch()
    with pytest.raises(UserError) as error:
        compose.compose_config([f"data={file}"])
    assert str(error.value).endswith(f"type data=files data.path={file}")
    assert f"type data=files data.path={file}" in str(explain_option("--data", str(file)))


def test_each_synonym_names_a_setting_and_is_none():
    known = {*known_keys(), *GROUPS}
    assert set(SYNONYMS.values()) <= known
    assert not set(SYNONYMS) & known


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        ("name=1e3", "'name=\"1e3\"'"),
        ("name=true", "'name=\"true\"'"),
        ("name=1_000", "'name=\"1_000\"'"),
        ("tags=[on,1e3,null,0123]", '\'tags=[on,"1e3","null",0123]\''),
        ("data.tgt=.5", "'data.tgt=\".5\"'"),
    ],
)
def test_a_text_that_would_become_another_is_refused_with_its_quoted_form(word, typed):
    with pytest.raises(UserError, match="not as a text") as error:
        compose.compose_config(["task=translate", word])
    assert str(error.value).endswith(f"type {typed}")
    config = compose.compose_config(["task=translate", typed.strip("'")])
    assert word.partition("=")[2] in (config.name, config.data.tgt, f"[{','.join(config.tags)}]")  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", ["no", "on", "12:30", "0123", "3", "1.0", "2024-01-01", "nan"])
def test_a_text_that_stays_as_it_is_needs_no_quotes(value):
    config = compose.compose_config([f"name={value}", f"tags=[{value},{value}]"])
    assert (config.name, config.tags) == (value, [value, value])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed\u200b=1", "has ZERO WIDTH SPACE (U+200B); type seed=1"),
        ("seed=\u20131", "has EN DASH (U+2013); type seed=-1"),
        ("seed=1\u00a0", "has NO-BREAK SPACE (U+00A0); type seed=1"),
        ("seed\uff1d1", "has FULLWIDTH EQUALS SIGN (U+FF1D); type seed=1"),
        ("\ufeffseed=1", "ZERO WIDTH NO-BREAK SPACE (U+FEFF); type seed=1"),
        ("name=“my run”", "type 'name=\"my run\"'"),
        ("name=a\u200b", "has ZERO WIDTH SPACE (U+200B); type name=a"),
        ("model=nano\u200b", "has ZERO WIDTH SPACE (U+200B); type model=nano"),
        ("name=a\udcff", "byte 0xff, which is not UTF-8"),
    ],
)
def test_a_sign_that_nobody_sees_is_named(word, message):
    with pytest.raises(UserError) as error:
        compose.compose_config([word])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--optim.lr=0.01", ""), "settings have no dashes; type optim.lr=0.01"),
        (("--max_steps", "3"), "type trainer.max_steps=3"),
        (("--max-steps=3", "seed=1"), "type trainer.max_steps=3"),
        (("--model", "small"), "type model=small"),
        (("--sead=1", ""), "Did you mean 'seed'? Settings are KEY=VALUE, without dashes"),
    ],
)
def test_a_setting_with_dashes_is_answered_with_the_word_to_type(words, message):
    assert message in str(explain_option(*words))


def test_the_last_word_of_a_key_counts():
    assert find_override(["seed=1", "seed=2", "name=x"], "seed") == "seed=2"
    assert find_override(["seed=1"], "name") is None
