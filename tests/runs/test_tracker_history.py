"""A logger that comes later receives the rows that it has missed, once."""

from dataclasses import dataclass, replace

import pytest

from gptexp.config.schema import LoggerConfig
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.tracker_history import fill_finished, open_complete_tracker
from gptexp.runs.trackers import Tracker


class LineTracker(Tracker):
    """Writes a file that is named after its project: the step of each row, and the word result."""

    def __init__(self, config, folder):
        self.file = folder.path / config.logger.project

    def log(self, row):
        with self.file.open("a") as out:
            out.write(f"{row['step']} ")

    def finish(self, metrics, samples):
        with self.file.open("a") as out:
            out.write("result")


@dataclass
class LineConfig(LoggerConfig):
    kind: str = "lines"
    target = f"{__name__}:LineTracker"
    project: str = "a"


@pytest.fixture
def log(tiny, own_folder):
    """Log rows of some steps to the logger of a project, as one process of a run does."""
    folder = RunFolder(own_folder / "run")
    folder.create(tiny())

    def log_steps(project, *steps):
        tracker = open_complete_tracker(config_of(tiny(), project), folder)
        for step in steps:
            folder.append_metrics({"step": step})
            tracker.log({"step": step})

    return log_steps


def config_of(config, project):
    return replace(config, logger=LineConfig(project=project))


def lines_of(own_folder, project):
    return (own_folder / "run" / project).read_text().split()


def test_each_logger_has_each_row_once_whatever_the_order(log, own_folder):
    log("a", 1, 2)
    log("a", 3)  # the run resumes
    log("b", 4)
    log("a", 5)
    log("b")
    assert lines_of(own_folder, "a") == lines_of(own_folder, "b") == ["1", "2", "3", "4", "5"]


def test_a_finished_run_fills_another_logger_and_only_once(log, tiny, own_folder):
    folder = RunFolder(own_folder / "run")
    log("a", 1, 2)
    folder.update_result(status="finished", metrics={})
    assert not fill_finished(config_of(tiny(), "a"), folder)
    assert fill_finished(config_of(tiny(), "b"), folder)
    assert not fill_finished(config_of(tiny(), "b"), folder)
    assert not fill_finished(config_of(tiny(), "a"), folder)
    assert lines_of(own_folder, "b") == ["1", "2", "result"]
    assert fill_finished(tiny("logger=csv"), folder)
    assert (folder.path / "metrics.csv").read_text().count("\n") == 3
    assert folder.result()["status"] == "finished"


def test_a_logger_that_fails_is_filled_the_next_time(log, tiny, own_folder, monkeypatch):
    folder = RunFolder(own_folder / "run")
    log("a", 1)
    folder.update_result(status="finished", metrics={})
    with monkeypatch.context() as patched:
        patched.setattr(LineTracker, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fill_finished(config_of(tiny(), "b"), folder)
    assert fill_finished(config_of(tiny(), "b"), folder)
