import json
import os

import pytest

from gptexp.runs import timings
from gptexp.runs.run_folder import RunFolder
from gptexp.watching.json_lines import JsonLines
from gptexp.watching.run_progress import MAX_POINTS, RunProgress, state_json

CONFIG = "trainer:\n  max_steps: 100\n"


def line(step: int, loss: float, **more: float) -> str:
    return json.dumps({"step": step, "train/loss": loss, **more}) + "\n"


@pytest.fixture
def folder(own_folder):
    path = own_folder / "outputs" / "translate-nano-1"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(CONFIG)
    return RunFolder(path)


def test_a_line_that_is_half_written_is_read_when_it_is_complete(own_folder):
    file = own_folder / "lines.jsonl"
    lines = JsonLines(file)
    assert lines.read_new() == ([], False)
    whole = line(1, 2.0)
    file.write_text(whole + whole[:7])
    assert lines.read_new() == ([json.loads(whole)], True)
    with file.open("a") as out:
        out.write(whole[7:])
    assert lines.read_new() == ([json.loads(whole)], False)
    assert lines.read_new() == ([], False)


def test_a_file_that_is_replaced_or_shortened_is_read_anew(own_folder):
    file = own_folder / "lines.jsonl"
    lines = JsonLines(file)
    file.write_text(line(1, 2.0) + line(2, 1.0))
    lines.read_new()
    file.write_text(line(1, 3.0))
    assert lines.read_new() == ([json.loads(line(1, 3.0))], True)
    other = own_folder / "other"
    other.write_text(line(1, 4.0) + line(2, 4.0))
    os.replace(other, file)
    assert lines.read_new() == ([json.loads(line(1, 4.0)), json.loads(line(2, 4.0))], True)
    file.unlink()
    assert lines.read_new() == ([], True)


def test_the_lock_tells_a_run_that_goes_on_from_one_that_was_killed(folder):
    run = RunProgress(folder)
    with folder.lock():
        run.update()
        assert run.state == "running"
        folder.update_result(status="running")
        run.update()
        assert run.state == "running"
    run.update()
    assert run.state == "killed"
    folder.update_result(status="failed", error="no space is left")
    run.update()
    assert (run.state, run.error) == ("failed", "no space is left")


def test_a_stale_lock_of_a_killed_process_is_no_running_run(folder):
    with folder.lock():
        stale = (folder.path.parent / ".locks" / "translate-nano-1.json").read_text()
    (folder.path.parent / ".locks" / "translate-nano-1.json").write_text(stale)
    assert not folder.is_locked()
    with folder.lock():
        assert folder.is_locked()


def test_the_time_left_counts_validation_and_the_final_evaluation(folder):
    run = RunProgress(folder)
    speed = {timings.STEP_MS: 500.0, timings.VALIDATION: 0.2, timings.TOKENS_PER_SECOND: 80.0}
    with folder.lock():
        run.update()
        assert run.seconds_left(None) is None
        folder.metrics_file.write_text(line(10, 2.0, **speed) + line(20, 1.0, **speed))
        run.update()
        now = folder.metrics_file.stat().st_mtime
        assert (run.step, run.max_steps, run.losses) == (20, 100, [2.0, 1.0])
        assert run.seconds_left(None, now) == pytest.approx(80 * 0.5 / 0.8)
        assert run.seconds_left(7.0, now + 3) == pytest.approx(80 * 0.5 / 0.8 + 7 - 3)
        assert run.tokens_per_second() == 80.0


def test_a_finished_run_reads_its_result_and_a_fresh_one_starts_anew(folder):
    folder.metrics_file.write_text(line(100, float("nan")))
    folder.write_record("result", status="finished", steps=100, tokens_per_second=7.0)
    run = RunProgress(folder)
    run.update()
    assert (run.state, run.step, run.tokens_per_second()) == ("finished", 100, 7.0)
    assert state_json(run, None)["train_loss"] is None
    folder.metrics_file.unlink()
    (folder.path / "result.json").unlink()
    run.update()
    assert (run.state, run.step, run.losses) == ("killed", 0, [])


def test_a_long_curve_is_thinned(folder):
    folder.metrics_file.write_text("".join(line(step, 1.0) for step in range(5000)))
    run = RunProgress(folder)
    run.update()
    assert MAX_POINTS // 4 < len(run.losses) < MAX_POINTS
    assert run.step == 4999


def test_a_damaged_result_is_shown_as_damaged(folder):
    (folder.path / "result.json").write_text('{"status": "fini')
    progress = RunProgress(folder)
    progress.update()
    assert progress.state == "damaged"
    assert "result.json: is damaged (" in progress.error
