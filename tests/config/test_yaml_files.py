"""A YAML file of a user: each value that YAML reads as something else is refused, with file, line and what to type."""

from pathlib import Path

import pytest

from gptexp.config import compose
from gptexp.config.schema import Config
from gptexp.errors import UserError

DEFAULTS = "defaults: [config, {override task: translate}, {override model: nano}, _self_]\n"


def compose_file(text: str | bytes, name: str = "mine") -> Config:
    """Compose a config with a file on top, as `-cd . -cn mine` does."""
    path = Path(f"{name}.yaml")
    path.write_bytes(text if isinstance(text, bytes) else (DEFAULTS + text).encode())
    return compose.compose_config([], path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {tgt: no}", ":2: data.tgt: no is read as False, not as a text; type tgt: \"no\""),
        ("data:\n  tgt: no", ":3: data.tgt: no is read"),
        ("tags: [on]", ':2: tags: on is read as True, not as a text; type "on"'),
        ("tags: [a, 12:30]", '12:30 is read as 750, not as a text; type "12:30"'),
        ("tags:\n- 0123", ':3: tags: 0123 is read as 83, not as a text; type "0123"'),
        ("name: 1e3", "1e3 is read as 1000.0"),
        ("name: yes", 'yes is read as True, not as a text; type name: "yes"'),
        ("tags: [~]", '~ is read as null, not as a text; type "~"'),
        ("name: run #3", "#3 is read as a comment. If it belongs to the text, type name: \"run #3\""),
        ("name: a: b", ":2: is no YAML (mapping values are not allowed here). A text with :"),
        ("name: [draft].txt", ":2: is no YAML"),
        ("name: !x y", "!x is a tag of YAML"),
        ("seed: 010", ":2: seed: 010 is read as 8"),
        ("seed: x", ":2: seed: x: must be a whole number"),
        ("seed: 1\nseed: 2", ":3: seed stands twice"),
        ("sead: 1", "Did you mean 'seed'?"),
        ("model: {rope_scaling: {factor: [1]}}", "model.rope_scaling.factor: [1]: must be a number, not a list"),
        ("model: {rope_scaling: {on: 1}}", 'the name on is read as True; type "on": ...'),
        ("trainer: 3", ":2: trainer: must hold lines KEY: VALUE"),
        ("tags: a", ":2: tags: a: a list is needed: [a]"),
        ("name: ${oc.env:NOT_SET}", ":2: name: the environment variable NOT_SET is not set"),
        ("hydra: {sweeper: {params: {data.tgt: no}}}", "data.tgt: no is read as False"),
        ("hydra: {sweeper: {params: {seed: [1,2]}}}", "the values of a sweep are one text: seed: 1,2,3"),
        ("hydra: {sweeper: {params: {seed: '1,x'}}}", "seed=x: must be a whole number"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_line_and_what_to_type(text, message):
    with pytest.raises(UserError) as error:
        compose_file(text)
    assert message in str(error.value)
    assert "mine.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: 1", "its first line must be defaults: [config, _self_]"),
        (b"hydra: ~", "hydra: must hold lines KEY: VALUE"),
        (b"? [a]\n: 1", "a name must be a text"),
        (b"- a", "must hold lines KEY: VALUE"),
        (b"name: caf\xe9", "is not UTF-8"),
        (b"\tseed: 1", ":1: is no YAML"),
        (b"defaults: [{override data: no}]", "defaults.override data: no is read as False"),
        (b"defaults: [nowhere]", "its defaults list names nowhere, and there is no such file"),
    ],
)
def test_a_file_that_is_none_is_named(content, message):
    with pytest.raises(UserError) as error:
        compose_file(content)
    assert message in str(error.value)


def test_values_are_read_as_they_are_written():
    config = compose_file(
        'name: "yes"\ntags: ["no", \'12:30\', 2024-01-01, run # a comment\n]\nseed: 1_000\n'
        "data: {tgt: de} # German\nfresh: yes\ninit: ~\ntrainer: {compile: false}\n"
    )
    assert config.trainer.compile == "false"
    assert (config.name, config.seed, config.fresh, config.init) == ("yes", 1000, True, None)
    assert config.tags == ["no", "12:30", "2024-01-01", "run"]


def test_a_file_of_a_group_is_checked(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("defaults: [base_cldr]\ntgt: no\n")
    with pytest.raises(UserError, match=r"data/mine\.yaml:2: data\.tgt: no is read as False"):
        compose_file(b"defaults: [config, {override data: mine}]")
