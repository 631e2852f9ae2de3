import csv
import sys

import pytest

from gptexp.errors import UserError
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.tracker_history import open_complete_tracker
from gptexp.runs.trackers import TensorBoard, check_tracker


def test_a_resumed_csv_has_the_rows_of_metrics_jsonl(tiny, own_folder):
    config = tiny("logger=csv")
    folder = RunFolder(own_folder / "run")
    folder.create(config)
    folder.append_metrics({"step": 1, "train/loss": 2.5})
    tracker = open_complete_tracker(config, folder)
    tracker.log({"step": 2, "train/loss": 2.0, "val/loss": 2.1})
    tracker.close(failed=False)
    with (folder.path / "metrics.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["step"], row["train/loss"], row["val/loss"]) for row in rows] == [
        ("1", "2.5", ""),
        ("2", "2.0", "2.1"),
    ]


def test_tensorboard_takes_samples_with_and_without_the_answer_before_training(tiny, own_folder):
    pytest.importorskip("tensorboard")
    tracker = TensorBoard(tiny("logger=tensorboard"), RunFolder(own_folder / "run"))
    sample = {"input": "a", "reference": "b", "output": "c"}
    tracker.finish({"test/loss": 2.0}, [sample, {**sample, "before": "earlier"}])
    tracker.close(failed=False)
    [file] = (own_folder / "run/tensorboard").iterdir()
    assert b"**output** c" in file.read_bytes()
    assert b"**before** earlier" in file.read_bytes()


def test_a_missing_package_is_named_with_the_way_to_install_it(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'gptexp\[tensorboard\]'"):
        check_tracker(tiny("logger=tensorboard"))
