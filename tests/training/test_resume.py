"""Runs that are ended from outside go on as if nothing had happened."""

import json
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import lightning as L
import pytest
from conftest import BROKEN, ON_IMPORT, command, end_when, likeness, wait_until

from gptexp.config import compose
from gptexp.errors import UserError
from gptexp.files import dumps_with_checksum, loads_checked, sha256
from gptexp.run import run
from gptexp.runs.run_folder import RunFolder

LONGER = ["trainer.max_steps=40", "model.dropout=0.2", "trainer.checkpoint_every=3"]


def the_folder(outputs: str) -> RunFolder:
    deadline = time.monotonic() + 60
    while not (folders := [path for path in Path(outputs).glob("*-nano-*") if path.is_dir()]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return RunFolder(folders[0])


def end_after(process, folder: RunFolder, step: int, number: int = signal.SIGKILL) -> int:
    return end_when(process, lambda: any(row["step"] >= step for row in folder.metrics()), number)


@pytest.mark.parametrize(
    "more",
    [
        ["trainer.num_workers=2"],
        ["task=chat", "trainer.micro_batch_size=2", "trainer.precision=bf16"],
        ["task=chat", "trainer.devices=2"],
        [
            *("task=chat", "trainer.devices=2", "trainer.strategy=fsdp"),
            *("model.experts=4", "model.window=6"),
        ],
    ],
    ids=" ".join,
)
def test_killed_twice_it_ends_as_if_never_interrupted(more, pairs_words, chats_words):
    words = [*(chats_words if more[0] == "task=chat" else pairs_words), *LONGER]
    words += ["logger=csv", *more]
    uninterrupted = run(compose.compose_config([*words, "outputs=uninterrupted"]))
    for step in (6, 24):
        process = command(*words, "outputs=killed")
        assert end_after(process, the_folder("killed"), step) == -signal.SIGKILL
    resumed = run(compose.compose_config([*words, "outputs=killed"]))
    assert likeness(resumed) == likeness(uninterrupted)
    table = (resumed.path / "metrics.csv").read_text().splitlines()[1:]
    assert [int(line.split(",")[0]) for line in table] == [row["step"] for row in resumed.metrics()]


# The thread that writes the checkpoint of step 6 never ends.
NEVER_WRITTEN = f"""
MODULE = "gptexp.checkpoints.checkpointer"
{ON_IMPORT}
def patch(module):
    import time
    plain = module.save_file
    def save_file(tensors, path, metadata):
        time.sleep(600 if "step-000006" in str(path) else 0)
        plain(tensors, path, metadata)
    module.save_file = save_file
"""


def test_killed_while_a_thread_writes_it_goes_on_from_the_checkpoint_before(pairs_words, tmp_path):
    words = [*pairs_words, *LONGER, "trainer.max_steps=12", "trainer.val_every=100"]
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NEVER_WRITTEN)
    process = command(*words, PYTHONPATH=f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}")
    folder = the_folder("outputs")
    # Step 8 does not wait for the checkpoint of step 6.
    assert end_after(process, folder, 8) == -signal.SIGKILL
    assert (folder.checkpoints / ".step-000006.tmp").is_dir()
    assert folder.checkpoint().name == "step-000003"
    resumed = run(compose.compose_config(words))
    assert not (folder.checkpoints / ".step-000006.tmp").exists()
    uninterrupted = run(compose.compose_config([*words, "outputs=uninterrupted"]))
    assert likeness(resumed) == likeness(uninterrupted)


@pytest.mark.parametrize("more", [[], ["trainer.devices=2"]], ids=["alone", "two"])
def test_a_signal_saves_the_step_and_the_same_command_goes_on(more, pairs_words):
    words = [
        *pairs_words,
        *LONGER,
        "trainer.checkpoint_every=1000",
        "trainer.val_every=1000",
        "trainer.max_steps=200",  # the signal must find it training, on a busy machine too
        *more,
    ]
    uninterrupted = likeness(run(compose.compose_config([*words, "outputs=uninterrupted"])))
    for number in (signal.SIGTERM, signal.SIGINT):
        process = command(*words, f"outputs={number.name}")
        folder = the_folder(number.name)
        assert end_after(process, folder, 5, number) == 75
        assert folder.result()["status"] == "stopped"
        resumed = run(compose.compose_config([*words, f"outputs={number.name}"]))
        assert resumed.result()["status"] == "finished"
        steps = [row["step"] for row in folder.metrics()]
        assert steps == sorted(set(steps))
        assert likeness(folder) == uninterrupted


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
    # The next step takes a minute.
    wait_until(process, lambda: any(row["step"] == 4 for row in folder.metrics()))
    for _ in range(2):
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


class SeenExamples(L.Callback):
    """Notes the examples of each step, and fails before the batch of one."""

    def __init__(self, fails_at=None):
        self.fails_at, self.examples = fails_at, {}

    def on_train_batch_start(self, trainer, module, batch, *_):
        if module.step == self.fails_at:
            raise RuntimeError("the machine went away")
        self.examples[module.step] = batch.examples.tolist()


def drop_new_entries(checkpoint: Path) -> None:
    """Let a checkpoint be one of a version that counted steps only."""
    state = json.loads((checkpoint / "state.json").read_text())
    del state["order"], state["schedule"], state["flops"]
    (checkpoint / "state.json").write_text(json.dumps(state))
    manifest = loads_checked((checkpoint / "manifest.json").read_text())
    file = checkpoint / "state.json"
    manifest["files"][file.name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    (checkpoint / "manifest.json").write_text(dumps_with_checksum(manifest))


@pytest.mark.parametrize("is_old", [False, True], ids=["", "checkpoint of an earlier version"])
def test_a_longer_run_with_other_batches_sees_each_example_once_and_can_be_killed(
    is_old, translation, capsys
):
    words = ["data.limit=100", "trainer.checkpoint_every=5", "model.dropout=0.1"]
    first = SeenExamples()
    source = run(translation(*words, "trainer.max_steps=5"), callbacks=[first])
    if is_old:
        drop_new_entries(source.checkpoint())
    words += [f"resume={source.path}", "trainer.max_steps=25", "trainer.global_batch_size=4"]
    seen = SeenExamples()
    uninterrupted = run(translation(*words, "outputs=uninterrupted"), callbacks=[seen])
    examples = [
        number for step in (*first.examples.values(), *seen.examples.values()) for number in step
    ]
    assert list(seen.examples) == list(range(5, 25))
    size = source.read_record("data")["splits"]["train"]["sequences"]
    assert size < len(examples) == 120
    assert len(set(examples[:size])) == size
    assert len(set(examples[size:])) == 120 - size

    for step in (7, 12):  # before the first checkpoint of its own, and after it
        with pytest.raises(RuntimeError, match="went away"):
            run(translation(*words), callbacks=[SeenExamples(fails_at=step)])
    again = run(translation(*words))
    assert likeness(again) == likeness(uninterrupted)
    rates = [row["train/lr"] for row in again.metrics()]
    assert all(late < 4 * early for early, late in pairwise(rates))  # two steps between lines
    messages = capsys.readouterr().err
    assert "trainer.global_batch_size=4 (8 there): the order of sequences goes on" in messages
    assert "resuming at step 5 of 25; the learning rate rises from" in messages


def test_a_refused_continuation_leaves_no_folder(translation, pairs_file):
    first = run(translation("trainer.max_steps=4", "trainer.keep_checkpoints=1"))
    other = pairs_file.with_name("other.jsonl")
    other.write_text(pairs_file.read_text().replace("stone", "pebble"))
    words = [f"resume={first.path}", "trainer.max_steps=8"]
    for refused in (["trainer.max_steps=4"], ["seed=5"], [f"data.path={other}"]):
        with pytest.raises(UserError):
            run(translation(*words, *refused))
    (first.checkpoint() / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="none of its checkpoints is complete"):
        run(translation(*words))
    assert [path.name for path in Path("outputs").glob("[!.]*")] == [first.path.name]
    (first.path / "config.json").touch()
    with pytest.raises(UserError, match=r"init=.* instead of resume="):
        run(translation(*words))


class FailsAfter(L.Callback):
    def on_train_batch_end(self, trainer, module, *_):
        if module.step == 7:
            raise RuntimeError("the disk went away")


@pytest.mark.parametrize("held_out", [0, 0.1])
def test_the_last_step_has_a_line_whatever_ends_the_run(held_out, translation):
    words = [
        f"data.val_fraction={held_out}",
        f"data.test_fraction={held_out}",
        "trainer.max_steps=11",
        "trainer.log_every=5",
        "trainer.val_every=100",
        "trainer.checkpoint_every=3",
    ]
    with pytest.raises(RuntimeError, match="went away"):
        run(translation(*words), callbacks=[SeenExamples(fails_at=8)])
    folder = the_folder("outputs")
    assert [row["step"] for row in folder.metrics()] == [5, 8]
    with pytest.raises(RuntimeError, match="went away"):
        run(translation(*words), callbacks=[FailsAfter()])
    assert [row["step"] for row in folder.metrics()] == [5, 7]
    run(translation(*words))
    assert [row["step"] for row in folder.metrics()] == [5, 10, 11]


def test_a_finished_run_fills_a_logger_that_it_did_not_have(translation, capsys):
    folder = run(translation())
    assert run(translation("logger=csv")).path == folder.path
    rows = (folder.path / "metrics.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == [2, 4, 6, 8, 10, 12]
    message = "logger=csv: filled with the 6 lines of metrics.jsonl"
    assert message in capsys.readouterr().err
    run(translation("logger=csv"))
    assert message not in capsys.readouterr().err


def test_a_checkpoint_of_other_data_is_refused_unless_accepted(translation, pairs_file, capsys):
    words = ["trainer.max_steps=4"]
    first = run(translation(*words))
    other = pairs_file.with_name("other.jsonl")
    other.write_text(pairs_file.read_text().replace("stone", "pebble"))
    changed = [f"data.path={other}", f"resume={first.path}", "trainer.max_steps=8"]
    with pytest.raises(
        UserError, match=r"on other data: \w+ there, \w+ here\. allow_mismatch=\[data\] continues"
    ):
        run(translation(*changed))
    more = [*changed, "allow_mismatch=[data]"]
    assert run(translation(*more)).result()["steps"] == 8
    assert "resuming at step 4 of 8; other data, which start with a new epoch" in (
        capsys.readouterr().err
    )
    with pytest.raises(UserError, match=r"cannot continue with model.d_ff=64 \(96 there\)"):
        run(translation(*more, "model.d_ff=64"))
