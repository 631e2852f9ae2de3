"""Runs of a plugin's task, data, optimizer, schedule and model: processes, resume, sweeps, and the other verbs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, TRAIN, command, end_when, likeness
from plugin import write_plugin

from gptexp.runs.run_folder import RunFolder

TOY = ["plugins=[toy]", "task=backwards", "schedule=triangle", "optim=signsgd", *TRAIN]
SQUARE = [*TOY, "model=square", "logger=none"]


@pytest.fixture(autouse=True)
def project(own_folder: Path) -> Path:
    """The working folder, with the plugin in it."""
    write_plugin(own_folder)
    return own_folder


def finish(*words: str) -> RunFolder:
    process = command(*words)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return RunFolder(out.splitlines()[-1])


def verb(name: str, *words: str, folder: Path) -> str:
    """`python -m gptexp.NAME WORDS` in another folder, without the plugin on the module path."""
    done = subprocess.run(
        [sys.executable, "-m", f"gptexp.{name}", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_train_as_one_and_a_killed_run_goes_on():
    words = [*SQUARE, "trainer.devices=2", "trainer.max_steps=40"]
    once = finish(*words, "outputs=once")
    end_when(command(*words), Path("outputs", once.name, "checkpoints/last").is_file)
    resumed = finish(*words)
    assert likeness(resumed) == likeness(once)
    assert resumed.name == once.name


def test_edited_source_is_a_new_run_and_the_earlier_one_is_named(project):
    earlier = finish(*SQUARE)
    code = project / "toy_code.py"
    code.write_text(code.read_text() + "\nLIMIT = 3\n")
    process = command(*SQUARE)
    out, errors = process.communicate()
    assert RunFolder(out.splitlines()[-1]).name != earlier.name
    assert f"resume={earlier.path}" in errors
    assert len([path for path in (project / "cache/store").iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize("launcher", ["parallel", "submitit"])
def test_a_sweep_runs_in_processes_of_its_own(launcher):
    process = command("-m", f"hydra/launcher={launcher}", *SQUARE, "schedule.period=3,4")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    results = [json.loads(path.read_text()) for path in Path("outputs").glob("*/result.json")]
    assert [result["status"] for result in results] == ["finished", "finished"]


def test_other_verbs_find_the_plugin_from_any_folder(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    run = finish(*TOY, *TINY, "callbacks=note", "data=more_words", "logger=file").path.resolve()
    assert Path("note.txt").read_text() == "2\n"
    assert (run / "curve.txt").read_text().split() == ["2", "4", "6", "8", "10", "12"]
    assert json.loads(verb("generate", str(run), "abc", "--json", folder=elsewhere))["outputs"]
    assert "test/loss" in verb("evaluate", str(run), folder=elsewhere)
    verb("export", str(run), "exported", folder=elsewhere)
    exported = elsewhere / "exported"
    assert json.loads(verb("generate", str(exported), "abc", "--json", folder=project))["outputs"]
    assert os.listdir(elsewhere) == ["exported"]
