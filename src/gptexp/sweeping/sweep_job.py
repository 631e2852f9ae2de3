"""One job of a sweep, in the process that runs it: it reports to the sweep's folder, and stops with the sweep."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Self

from gptexp.config.schema import Config
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import JobEntry, State, SweepFolder

SWEEP = "GPTEXP_SWEEP"  # environment variable with the path of the sweep's folder
NUMBER = "GPTEXP_SWEEP_JOB"  # of the job
PARENT = "GPTEXP_SWEEP_PARENT"  # process id of the sweep, for a job in a process of its own


class SweepJob:
    """The job of this process, as the environment names it."""

    def __init__(self, folder: SweepFolder, number: int) -> None:
        self.folder, self.number = folder, number

    @classmethod
    def from_env(cls) -> Self | None:
        """Return the job of this process; None: it belongs to no sweep."""
        path, number = os.environ.get(SWEEP), os.environ.get(NUMBER)
        return cls(SweepFolder(Path(path)), int(number)) if path and number else None

    def report(
        self, state: State, run: str | None = None, reason: str | None = None, code: int = 0
    ) -> None:
        overrides = self.folder.job(self.number).overrides
        self.folder.add(JobEntry(self.number, overrides, state, run, reason, code))

    def start(self, run: RunFolder) -> None:
        self.report("running", run.name)

    def finish(self, run: RunFolder) -> None:
        """Report the end of the run, and which metric the sweep compares, which only a task knows."""
        result = run.result()
        with self.folder.lock():
            if self.folder.settings()["primary_metric"] is None:
                keys = ("primary_metric", "higher_is_better")
                self.folder.update_settings(**{key: result.get(key) for key in keys})
            self.report("finished", run.name)

    def fail(self, reason: str, code: int) -> int | None:
        """Report a failure; return the number of an earlier job that failed for the same reason."""
        self.report("failed", reason=reason, code=code)
        return self.folder.find_same_failure(self.folder.job(self.number))

    def swept_keys(self) -> set[str]:
        """Return the settings that have several values in the sweep."""
        return {"seed", *self.folder.settings()["keys"]}

    def group_in_tracker(self, config: Config) -> None:
        """Let W&B show the runs of a sweep as a group, unless the config names another."""
        if getattr(config.logger, "group", "") is None:
            config.logger.group = self.folder.name  # type: ignore[attr-defined]


def stop_with_parent() -> None:
    """Save and stop this process when the sweep has gone: one that is killed cannot signal its jobs."""
    if PARENT not in os.environ:
        return
    parent = int(os.environ[PARENT])

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
