import os
import subprocess
import sys

import pytest

from gptexp.errors import RunError, UserError
from gptexp.runs.run_folder import RunFolder, find_run


@pytest.fixture
def folder(tiny, own_folder):
    folder = RunFolder(own_folder / "outputs" / "a-run")
    folder.create(tiny("task=translate"))
    return folder


def test_a_new_folder_records_config_and_environment(folder):
    assert folder.config().task.kind == "translate"
    assert folder.config_values()["model"]["d_model"] == 32
    environment = folder.read_record("environment")
    assert environment["versions"]["torch"]
    assert environment["machine"]["cpus"]


def test_records_are_replaced_and_results_are_merged(folder):
    assert folder.read_record("crash") == {}
    folder.write_record("crash", step=1, loss="nan")
    folder.write_record("crash", step=2)
    assert folder.read_record("crash") == {"step": 2}
    folder.update_result(status="running")
    folder.update_result(steps=3)
    assert folder.result() == {"status": "running", "steps": 3}


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_record_is_named(folder, content):
    (folder.path / "result.json").write_text(content)
    with pytest.raises(UserError, match=r"result\.json: is damaged"):
        folder.result()


@pytest.mark.parametrize("content", ["", "..", "x", "step-000009"])
def test_a_damaged_pointer_names_no_checkpoint(content, folder):
    (folder.checkpoints / "step-000002").mkdir(parents=True)
    (folder.checkpoints / "last").write_text("step-000002\n")
    assert folder.steps_done() == 2
    (folder.checkpoints / "last").write_text(content)
    assert folder.checkpoint() is None
    (folder.checkpoints / "best").mkdir()
    assert folder.best_checkpoint() is None


def test_samples_of_any_text_are_read_up_to_a_damaged_line(folder):
    rows = [{"input": "two\u2028lines", "output": "é"}, {"input": "b", "output": "c"}]
    folder.write_samples(rows)
    assert folder.samples() == rows
    folder.samples_file.write_bytes(folder.samples_file.read_bytes() + b"1\n")
    assert folder.samples() == rows
    folder.samples_file.write_bytes(b'{"input": "\x8d"}\n')
    assert folder.samples() == [{"input": "\ufffd"}]


def test_metrics_after_the_checkpoint_and_half_a_line_are_dropped(folder):
    for step in range(5):
        folder.append_metrics({"step": step})
    with folder.metrics_file.open("a") as out:
        out.write('{"step": 5, "los')
    assert len(folder.metrics()) == 5
    folder.truncate_metrics(2, log_every=1)
    folder.append_metrics({"step": 3})
    assert [row["step"] for row in folder.metrics()] == [0, 1, 2, 3]


def test_samples_name_the_files_of_images(folder):
    class Image:
        suffix = ".png"

        def save(self, file):
            file.write_bytes(b"image")

    folder.write_samples([{"input": Image(), "output": "größer"}])
    assert folder.samples() == [{"input": "samples/01-input.png", "output": "größer"}]
    assert (folder.path / "samples" / "01-input.png").read_bytes() == b"image"


def test_scores_are_read_by_split_and_texts_of_all_kinds_are_kept(own_folder):
    folder = RunFolder(own_folder)
    assert folder.scores() == []
    rows = [{"split": "test", "output": "größer\ud800"}, {"split": "unseen", "scores": {"x": None}}]
    folder.write_scores(rows)
    assert folder.scores() == [{"split": "test", "output": "größer?"}, rows[1]]
    assert folder.scores("unseen") == rows[1:]


def test_checkpoints_are_found_by_pointer_and_by_name(folder):
    assert folder.checkpoint() is folder.best_checkpoint() is None
    for name in ("step-000001", "step-000002"):
        (folder.checkpoints / name).mkdir()
    (folder.checkpoints / "last").write_text("step-000002\n")
    assert folder.best_checkpoint() == folder.checkpoints / "step-000002"
    (folder.checkpoints / "best").write_text("step-000001\n")
    assert folder.best_checkpoint() == folder.checkpoint("step-000001")
    (folder.checkpoints / "best").write_text("step-000009\n")
    assert folder.best_checkpoint() == folder.checkpoint("last")
    with pytest.raises(UserError, match="has no checkpoint yet"):
        folder.weights_digest()


def test_a_resumed_copy_has_the_progress_of_the_other_run(folder):
    (folder.checkpoints / "step-000001").mkdir()
    folder.append_metrics({"step": 1})
    folder.update_result(status="finished")
    copy = RunFolder(folder.path.with_name("copy"))
    copy.copy_progress_from(folder)
    assert copy.metrics() == [{"step": 1}]
    assert copy.checkpoint("step-000001")
    assert not copy.result()


def test_a_second_process_cannot_lock_a_run(folder):
    lock = f"from gptexp.runs.run_folder import RunFolder\nwith RunFolder({str(folder.path)!r}).lock(): pass"
    with folder.lock():
        process = subprocess.run(
            [sys.executable, "-c", lock], capture_output=True, text=True, check=False
        )
        assert f"is being trained by process {os.getpid()} on" in process.stderr
    subprocess.run([sys.executable, "-c", lock], check=True)


def test_archived_folders_are_numbered(tiny, folder):
    assert folder.archived_count() == 0
    for number in (1, 2):
        assert folder.archive().name == f"a-run.{number}"
        folder.create(tiny())
    assert folder.archived_count() == 2


def test_a_run_is_found_by_path_name_and_time(tiny, folder):
    other = RunFolder(folder.path.with_name("b-run"))
    other.create(tiny())
    os.utime(other.path / "config.yaml", (0, 0))
    assert find_run("latest").path.resolve() == folder.path
    assert find_run("b-run").path.resolve() == other.path
    assert find_run(str(other.path)).path == other.path
    with pytest.raises(UserError, match=r"Did you mean 'outputs/a-run'\? Runs here: outputs/a-run"):
        find_run("outputs/a-rum")
    (folder.checkpoints / "step-000001").mkdir()
    inside = os.path.relpath(folder.checkpoints / "step-000001")
    with pytest.raises(UserError, match=r"inside a run folder\. Give that folder: outputs/a-run$"):
        find_run(inside)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RunError("no data"), "no data"),
        (OSError(28, "full"), "the disk: no space is left"),
        (MemoryError(), "MemoryError()"),
    ],
)
def test_a_run_that_fails_before_training_has_a_result_with_the_reason(
    error, reason, tiny, own_folder
):
    folder = RunFolder(own_folder / "outputs" / "run")
    with pytest.raises(type(error)), folder.record_failure(tiny()):
        raise error
    assert folder.result()["status"] == "failed"
    assert folder.result()["error"].startswith(reason)
    assert folder.config() == tiny()


def test_wrong_input_leaves_no_folder_and_a_finished_run_as_it_is(tiny, folder, own_folder):
    new = RunFolder(own_folder / "outputs" / "new")
    folder.update_result(status="stopped")
    for one in (new, folder):
        with pytest.raises(UserError), one.record_failure(tiny()):
            raise UserError("no such file")
    assert not new.path.exists()
    assert folder.result() == {"status": "stopped"}


def test_a_run_that_fails_twice_in_one_way_keeps_what_it_recorded(tiny, folder):
    def train():
        with folder.record_failure(tiny()):
            folder.update_environment(device={"type": "one"})
            folder.update_result(status="running", error=None)
            folder.update_result(status="failed", error="rank 0 failed")
            raise RunError("the processes ended: rank 0 failed first")

    for _ in range(2):
        with pytest.raises(RunError):
            train()
        assert folder.result()["error"] == "rank 0 failed"
        assert folder.read_record("environment")["device"] == {"type": "one"}


def test_a_rank_that_is_killed_leaves_no_running_run(tiny, folder):
    def train():
        with folder.record_failure(tiny()):
            folder.update_result(status="running")
            raise RunError("SIGKILL ended a rank")

    with pytest.raises(RunError):
        train()
    assert folder.result()["status"] == "failed"


def test_a_line_that_only_a_stop_has_caused_goes_when_the_run_resumes(folder):
    for row in ({"step": 4}, {"step": 5, "val/loss": 1.0}, {"step": 6}):
        folder.append_metrics(row)
        folder.truncate_metrics(row["step"], log_every=4)
    assert [row["step"] for row in folder.metrics()] == [4, 5]


def test_a_config_that_ends_in_its_middle_is_damaged(tmp_path):
    (tmp_path / "config.yaml").write_text("model:\n  layers: 2\ntrainer:\n  max_st: 1")
    with pytest.raises(UserError, match=r"config\.yaml: is damaged"):
        RunFolder(tmp_path).config_values()
