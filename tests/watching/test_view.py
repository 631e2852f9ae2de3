import json
import os

import pytest
from rich.console import Console

from gptexp.runs import timings
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import JobEntry, SweepFolder
from gptexp.watching.folder_state import FolderState
from gptexp.watching.view import ASCII_BLOCKS, draw, format_duration, sparkline


def make_run(outputs, name, **result):
    folder = RunFolder(outputs / name)
    folder.path.mkdir(parents=True)
    (folder.path / "config.yaml").write_text("trainer: {max_steps: 100}\n")
    speed = {timings.STEP_MS: 100.0, timings.TOKENS_PER_SECOND: 1234.0}
    rows = [{"step": n, "train/loss": 100.0 / n, "val/loss": 2.0, **speed} for n in (25, 50)]
    folder.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if result:
        folder.write_record("result", **result)
    return folder


@pytest.fixture
def text_of(own_folder):
    def call(*names, width=80, height=None):
        state = FolderState(own_folder / "outputs", names)
        state.update()
        console = Console(width=width, file=(own_folder / "screen").open("w"), markup=False)
        console.print(draw(state, width, height))
        console.file.close()
        return (own_folder / "screen").read_text()

    return call


def test_runs_that_go_on_come_first_and_lines_fit_80_columns(own_folder, text_of):
    outputs = own_folder / "outputs"
    finished = make_run(outputs, "translate-nano-old", status="finished", steps=100)
    finished.samples_file.write_text(json.dumps({"input": "one", "output": "uno\x1b[2J"}) + "\n")
    going_on = make_run(outputs, "translate-nano-with-a-very-long-name-of-a-job-devices2")
    with going_on.lock():
        text = text_of()
    lines = text.splitlines()
    assert lines[1].split()[1:4] == ["running", "50/100", "50%"]
    assert lines[2].split()[:3] == ["translate-nano-old", "finished", "100/100"]
    assert max(map(len, lines)) <= 80
    assert ": 1,234 tokens/s, 100 ms/step, last line " in lines[-1]
    assert "its first sample" in text_of("translate-nano-old")
    assert "\x1b" not in text_of("translate-nano-old")


def test_a_sweep_brings_its_runs_and_the_reason_of_a_failure(own_folder, text_of):
    outputs = own_folder / "outputs"
    make_run(outputs, "translate-nano-a", status="finished", steps=100)
    make_run(outputs, "other")
    sweep = SweepFolder.create(
        outputs / "sweep-lr-1", command=["gptexp"], keys=["optim.lr"], n_jobs=3
    )
    sweep.add(JobEntry(1, ["optim.lr=1"], "finished", run="translate-nano-a"))
    sweep.add(JobEntry(2, ["optim.lr=2"], "failed", reason="not finite\nmore"))
    with sweep.work():
        text = text_of("sweep-lr-1")
    assert "sweep-lr-1: 1 of 3 jobs finished, 1 failed; job 2 failed: not finite\n" in text
    assert "translate-nano-a" in text
    assert "other" not in text


def test_a_sweep_that_no_process_works_on_is_shown_as_killed(own_folder, text_of):
    sweep = SweepFolder.create(own_folder / "outputs" / "sweep-1", command=[], keys=[], n_jobs=2)
    sweep.add(JobEntry(1, ["optim.lr=1"], "running", run="translate-nano-a"))
    run = make_run(own_folder / "outputs", "translate-nano-a")
    killed = "sweep-1 (killed): 0 of 2 jobs finished, 1 killed; its command continues it\n"
    assert killed in text_of()
    with sweep.work():
        assert "sweep-1: 0 of 2 jobs finished, 1 running\n" in text_of()
    with run.lock():  # a job that a cluster has started goes on without the sweep
        assert "sweep-1: 0 of 2 jobs finished, 1 running\n" in text_of()
    sweep.add(JobEntry(1, ["optim.lr=1"], "finished"))
    assert "sweep-1 (stopped): 1 of 2 jobs finished; its command continues it\n" in text_of()
    sweep.add(JobEntry(2, ["optim.lr=2"], "failed"))
    assert "sweep-1: 1 of 2 jobs finished, 1 failed\n" in text_of()


def test_a_sweep_that_goes_on_says_how_long_it_will_take(own_folder):
    outputs = own_folder / "outputs"
    sweep = SweepFolder.create(outputs / "sweep-lr-1", command=["gptexp"], keys=[], n_jobs=4)
    for number, name in enumerate(("a", "b"), 1):
        make_run(outputs, name, **({"status": "finished", "steps": 100} if name == "a" else {}))
        sweep.add(JobEntry(number, [f"optim.lr={number}"], "running", run=name))
    sweep.add(JobEntry(1, ["optim.lr=1"], "finished", run="a"))
    start = (outputs / "a" / "config.yaml").stat().st_mtime
    os.utime(outputs / "a" / "result.json", (start + 60, start + 60))
    with RunFolder(outputs / "b").lock():
        state = FolderState(outputs)
        state.update()
        [progress] = state.sweeps.values()
        seconds = state.sweep_seconds_left(progress)
    # 5 s of the job that goes on (its evaluation is that of another kind), and two jobs of 60 s
    assert 115 <= seconds <= 126


def test_a_run_that_prepares_its_data_is_in_the_view(own_folder, text_of):
    (own_folder / "outputs").mkdir()
    with RunFolder(own_folder / "outputs" / "pretrain-nano-a").lock():
        text = text_of()
        assert text.splitlines()[1].split()[:3] == ["pretrain-nano-a", "running", "preparing"]
        assert text.splitlines()[-1] == "pretrain-nano-a: at work"
    assert "no runs in" in text_of()


def test_a_low_terminal_shows_the_newest_runs_and_counts_the_others(own_folder, text_of):
    for number in range(30):
        make_run(own_folder / "outputs", f"run-{number:02}", status="finished", steps=100)
    text = text_of(height=15)
    assert len(text.splitlines()) <= 15
    assert "more" in text


def test_archived_folders_leave_the_view(own_folder):
    folder = make_run(own_folder / "outputs", "translate-nano-a")
    state = FolderState(own_folder / "outputs")
    state.update()
    archived = folder.archive()
    state.update()
    assert [run.folder.path for run in state.sorted_runs()] == [archived]


def test_a_sparkline_spans_its_lowest_and_highest_mean():
    assert sparkline([4, 4, 2, 2, 0, 0], 3) == "█▅▁"
    assert sparkline([1.0, float("nan"), 1.0], 8, ASCII_BLOCKS) == "__"
    assert sparkline([], 8) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45s"), (200, "3m20s"), (7500, "2h05m"), (273600, "3d04h")]
)
def test_durations_are_short(seconds, text):
    assert format_duration(seconds) == text
