"""The W&B sweep files: of the form that W&B documents, and with commands that compose."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from gptexp.config.compose import compose_config
from gptexp.config.package_data import sweep_files

FOLDER = sweep_files()[0].parent
FILES = sorted((FOLDER / "wandb").glob("*.yaml"))
assert FILES, "without files, pytest skips the tests of each"
NUMBER, TEXT = {"type": "number"}, {"type": "string", "minLength": 1}
# Sweep configurations as docs.wandb.ai describes them, as far as these files use them.
SCHEMA = {
    "type": "object",
    "required": ["method", "parameters", "command"],
    "additionalProperties": False,
    "properties": {
        "method": {"enum": ["grid", "random", "bayes"]},
        "name": TEXT,
        "project": TEXT,
        "run_cap": {"type": "integer", "minimum": 1},
        "metric": {
            "type": "object",
            "required": ["name", "goal"],
            "additionalProperties": False,
            "properties": {"name": TEXT, "goal": {"enum": ["minimize", "maximize"]}},
        },
        "early_terminate": {
            "type": "object",
            "required": ["type", "min_iter"],
            "additionalProperties": False,
            "properties": {
                "type": {"const": "hyperband"},
                "min_iter": {"type": "integer", "minimum": 1},
                "eta": {"type": "integer", "minimum": 2},
            },
        },
        "parameters": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": r"^[A-Za-z_][A-Za-z0-9_.-]*$"},
            "additionalProperties": {
                "oneOf": [
                    {
                        "type": "object",
                        "required": ["values"],
                        "additionalProperties": False,
                        "properties": {
                            "values": {"type": "array", "minItems": 1, "uniqueItems": True}
                        },
                    },
                    {
                        "type": "object",
                        "required": ["distribution", "min", "max"],
                        "additionalProperties": False,
                        "properties": {
                            "distribution": {"enum": ["uniform", "log_uniform_values"]},
                            "min": NUMBER,
                            "max": NUMBER,
                        },
                    },
                ]
            },
        },
        "command": {"type": "array", "items": TEXT},
    },
}


def read(file: Path) -> dict:
    return yaml.safe_load(file.read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_form_is_what_wandb_takes(file):
    jsonschema.validate(values := read(file), SCHEMA)
    assert values["method"] != "bayes" or {"metric", "run_cap"} <= set(values)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_command_of_an_agent_composes(file):
    values = read(file)
    command = values["command"]
    assert command[:4] == ["${env}", "${interpreter}", "-m", "gptexp.run"]
    assert command[-1] == "${args_no_hyphens}"
    words = [word for word in command[4:-1] if "=" in word]
    starts = [
        f"{key}={axis['values'][0] if 'values' in axis else axis['min']}"
        for key, axis in values["parameters"].items()
        if key != "experiment"  # lies in sweeps/experiment/, which -cd adds
    ]
    assert compose_config([*words, *starts])
    if "experiment" in values["parameters"]:
        assert command[4:6] == ["-cd", "sweeps"]
        names = values["parameters"]["experiment"]["values"]
        assert all((FOLDER / "experiment" / f"{name}.yaml").is_file() for name in names)


def test_each_sweep_but_that_of_base_is_there_for_wandb_and_says_how_it_is_started():
    assert {file.stem for file in FILES} == {file.stem for file in sweep_files()} - {"base"}
    for file in FILES:
        lines = file.read_text().splitlines()
        assert lines[0] == f"# wandb sweep --project gptexp sweeps/wandb/{file.name}"
        assert re.fullmatch(r"# .*wandb agent --forward-signals ENTITY/gptexp/SWEEP_ID", lines[1])


def test_the_values_are_those_of_the_sweep_for_hydra():
    for name in ("lr", "seeds", "data_size", "ablations", "tasks", "ladder"):
        params = read(FOLDER / f"{name}.yaml")["hydra"]["sweeper"]["params"]
        parameters = read(FOLDER / "wandb" / f"{name}.yaml")["parameters"]
        for key, axis in parameters.items():
            assert ",".join(map(str, axis["values"])) == str(params[key]), (name, key)
