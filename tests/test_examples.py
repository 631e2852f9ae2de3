"""examples/plugin, a user's own project: copied out of the repository, and run as its README says."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import command, end_when, likeness, seconds_without_torch

from gptexp.runs.run_folder import RunFolder

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "examples" / "plugin"
GUIDE = REPOSITORY / "docs" / "extending.md"
SORT = [
    *("task=sort", "logger=none", "data.words=800", "task.test_examples=20"),
    *("trainer.max_steps=40", "trainer.global_batch_size=16", "trainer.val_every=20"),
    *("trainer.log_every=2", "trainer.checkpoint_every=5", "trainer.keep_checkpoints=1"),
    *("trainer.progress=false", "trainer.precision=32", "trainer.accelerator=cpu"),
    *("callbacks=gradient_spikes", "callbacks.gradient_spikes.factor=1.1"),
]


@pytest.fixture
def project(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example, as the working folder."""
    ignored = shutil.ignore_patterns("__pycache__", "outputs")
    shutil.copytree(EXAMPLE, own_folder / "project", ignore=ignored)
    monkeypatch.chdir(own_folder / "project")
    return own_folder / "project"


def gptexp(verb: str, *words: str, fails: bool = False) -> str:
    """Run a verb in a process of its own; return its output with all messages, or its message where it refuses."""
    done = run_verb(verb, *words, code=2 if fails else 0)
    return (done.stderr if fails else done.stdout + done.stderr).strip()


def answer_of(verb: str, *words: str) -> str:
    """Run a verb; return its output without messages, such as those about a slow start."""
    return run_verb(verb, *words).stdout.strip()


def run_verb(verb: str, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", f"gptexp.{verb}", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def folder_of(output: str) -> RunFolder:
    return RunFolder(Path(re.findall(r"^outputs\S*/sort-glu-\w+", output, re.M)[-1]))


def test_it_is_small():
    lines = [line for file in EXAMPLE.rglob("*.py") for line in file.read_text().splitlines()]
    assert sum(bool(line.strip()) for line in lines) < 120


def test_every_verb_knows_it(project):
    output = gptexp("run", *SORT, "schedule.warmup_steps=5", "optim.lr=0.004")
    run, metrics = folder_of(output), folder_of(output).result()["metrics"]
    assert metrics["test/in_place"] > metrics["test/baseline/in_place"]
    assert "gradient norm" in output  # of the callback
    assert "finished earlier" in gptexp("run", *SORT, "schedule.warmup_steps=5", "optim.lr=0.004")

    assert set(answer_of("generate", "latest", "fbedca")) <= set("abcdefgh")
    evaluated = json.loads(answer_of("evaluate", "latest", "--json"))["metrics"]
    assert evaluated == {name: metrics[name] for name in evaluated}
    refusal = gptexp("export", "latest", "exported", fails=True)
    assert "transformers has no GluFeedForward, GluTransformer" in refusal
    assert not Path("exported").exists()

    task = project / "sorting" / "task.py"
    task.write_text(task.read_text().replace("sum(a == b", "sum(b == a"))
    output = gptexp("run", *SORT, "schedule.warmup_steps=5", "optim.lr=0.004")
    assert f"To continue that one: resume={run.path}" in output
    assert folder_of(output).path != run.path
    longer = [word.replace("max_steps=40", "max_steps=44") for word in SORT]
    resumed = gptexp("run", *longer, f"resume={run.path}", "schedule.warmup_steps=5")
    assert "resuming at step 40 of 44" in resumed


@pytest.mark.usefixtures("project")
def test_killed_under_two_processes_it_ends_as_if_never_interrupted():
    words = [*SORT, "trainer.devices=2", "model.dropout=0.1"]
    fifteenth = "sort-*/checkpoints/step-000015"
    end_when(command(*words), lambda: list(Path("outputs").glob(fifteenth)))
    output = gptexp("run", *words)
    assert re.search(r"resuming at step \d", output)
    resumed, whole = folder_of(output), folder_of(gptexp("run", *words, "outputs=outputs2"))
    assert likeness(resumed) == likeness(whole)
    states = [(run.checkpoint() / "callbacks.json").read_text() for run in (resumed, whole)]
    assert states[0] == states[1] != "{}"


@pytest.mark.usefixtures("project")
def test_a_sweep_varies_its_settings():
    output = gptexp(
        "run", "-m", *SORT, "model.gate=none,sigmoid", "model.smoothing=0.1", "trainer.max_steps=4"
    )
    table = output[output.index("sweep") :].splitlines()
    assert {line.split()[0] for line in table[1:3]} == {"model.gate=none", "model.gate=sigmoid"}
    assert "test/exact_match" in table[1]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "words",
    [["--help"], ["task=sorting"], ["task=sort", "optim.beta1=big"], ["task=sort", "model.gate=x"]],
)
def test_help_and_errors_come_at_once(words):
    assert seconds_without_torch(*words) < 2  # 0.6 on an idle machine


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=sorted"], "Did you mean 'sort'"),
        (["task=sort", "optim.beta3=0.5"], "Did you mean 'optim.beta2'"),
        (["task=sort", "model.gate=tanh"], "model.gate=tanh"),
        (["task=sort", "model.experts=4"], "model=glu has a gate of its own"),
    ],
)
def test_a_mistake_is_answered_with_what_is_allowed(words, message):
    assert message in gptexp("run", *words, fails=True)


@pytest.mark.usefixtures("project")
def test_the_commands_of_its_readme_compose():
    text = (EXAMPLE / "README.md").read_text()
    commands = re.findall(r"^    gptexp run (.*?)(?:  #.*)?$", text, re.M)
    assert len(commands) >= 3
    for words in map(shlex.split, commands):
        gptexp("run", *(word for word in words if word != "-m" and "," not in word), "--cfg", "job")


def test_the_code_of_the_guide_is_that_of_the_example():
    blocks = re.findall(r"^```\w+ (\S+)\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    assert len(blocks) >= 8
    for name, code in blocks:
        assert code in (EXAMPLE / name).read_text(), name
