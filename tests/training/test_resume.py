"""Runs that are ended from outside go on as if nothing had happened."""

import os
import signal
import time
from pathlib import Path

import pytest
from conftest import BROKEN, command, likeness

from gptexp.config import compose
from gptexp.errors import UserError
from gptexp.run import run
from gptexp.runs.run_folder import RunFolder

LONGER = ["trainer.max_steps=40", "model.dropout=0.2", "trainer.checkpoint_every=3"]


def the_folder(outputs: str) -> RunFolder:
    deadline = time.monotonic() + 60
    while not (folders := [path for path in Path(outputs).glob("translate-*") if path.is_dir()]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return RunFolder(folders[0])


def end_after(process, folder: RunFolder, step: int, number: int = signal.SIGKILL) -> int:
    while process.poll() is None and not any(row["step"] >= step for row in folder.metrics()):
        time.sleep(0.005)
    process.send_signal(number)
    process.communicate()
    return process.returncode


@pytest.mark.parametrize(
    "more",
    [
        ["trainer.num_workers=2"],
        ["trainer.micro_batch_size=2", "trainer.precision=bf16"],
        ["trainer.devices=2"],
        ["trainer.devices=2", "trainer.strategy=fsdp"],
        ["trainer.devices=2", "trainer.strategy=fsdp", "model.experts=4", "model.window=6"],
    ],
    ids=" ".join,
)
def test_killed_twice_it_ends_as_if_never_interrupted(more, pairs_words):
    words = [*pairs_words, *LONGER, "logger=csv", *more]
    uninterrupted = run(compose.compose_config([*words, "outputs=uninterrupted"]))
    for step in (6, 24):
        process = command(*words, "outputs=killed")
        assert end_after(process, the_folder("killed"), step) == -signal.SIGKILL
    resumed = run(compose.compose_config([*words, "outputs=killed"]))
    assert likeness(resumed) == likeness(uninterrupted)
    table = (resumed.path / "metrics.csv").read_text().splitlines()[1:]
    assert [int(line.split(",")[0]) for line in table] == [row["step"] for row in resumed.metrics()]


@pytest.mark.parametrize("more", [[], ["trainer.devices=2"]], ids=["alone", "two"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_and_the_same_command_goes_on(number, more, pairs_words):
    words = [
        *pairs_words,
        *LONGER,
        "trainer.checkpoint_every=1000",
        "trainer.val_every=1000",
        "trainer.max_steps=200",  # the signal must find it training, on a busy machine too
        *more,
    ]
    process = command(*words)
    folder = the_folder("outputs")
    assert end_after(process, folder, 5, number) == 75
    assert folder.result()["status"] == "stopped"
    assert run(compose.compose_config(words)).result()["status"] == "finished"
    steps = [row["step"] for row in folder.metrics()]
    assert steps == sorted(set(steps))
    assert likeness(folder) == likeness(
        run(compose.compose_config([*words, "outputs=uninterrupted"]))
    )


def test_slurms_warning_puts_the_job_back_into_the_queue(pairs_words, tmp_path):
    fake = tmp_path / "bin" / "scontrol"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$@" > "$(dirname "$0")/output"\n')
    fake.chmod(0o755)
    process = command(
        *pairs_words, *LONGER, PATH=f"{fake.parent}:{os.environ['PATH']}", SLURM_JOB_ID="123"
    )
    assert end_after(process, the_folder("outputs"), 5, signal.SIGUSR1) == 75
    assert (fake.parent / "output").read_text() == "requeue 123\n"


def test_the_second_ctrl_c_stops_at_once(pairs_words, tmp_path):
    (tmp_path / "site").mkdir()
    slow = BROKEN.replace(
        "        factor", "        import time; time.sleep(60 * (now[0] == 4))\n        factor", 1
    )
    (tmp_path / "site" / "sitecustomize.py").write_text(slow.replace('float("nan")', "1.0"))
    process = command(*pairs_words, "trainer.log_every=1", PYTHONPATH=str(tmp_path / "site"))
    folder = the_folder("outputs")
    while not any(row["step"] == 4 for row in folder.metrics()):  # the next one takes a minute
        time.sleep(0.01)
    for _ in range(2):
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


def test_a_checkpoint_of_other_data_is_refused_unless_accepted(translation, pairs_file):
    words = ["trainer.max_steps=4"]
    first = run(translation(*words))
    other = pairs_file.with_name("other.jsonl")
    other.write_text(pairs_file.read_text().replace("stone", "pebble"))
    changed = [*words, f"data.path={other}", f"resume={first.path}"]
    with pytest.raises(
        UserError, match=r"another data: \w+ there, \w+ here\. allow_mismatch=\[data\] continues"
    ):
        run(translation(*changed))
    more = [*changed, "allow_mismatch=[data]", "trainer.max_steps=8"]
    assert run(translation(*more)).result()["steps"] == 8
    with pytest.raises(UserError, match=r"another model: d_ff \d+ there, 64 here"):
        run(translation(*more, "model.d_ff=64"))
