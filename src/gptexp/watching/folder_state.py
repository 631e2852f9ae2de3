"""The state of all runs and sweeps in a folder, or of some of them."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptexp.errors import UserError
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import FINAL, JobEntry, SweepFolder, find_run_or_sweep
from gptexp.watching.run_progress import RunProgress

STATES = (
    "running",
    "stopped",
    "killed",
    "damaged",
    "failed",
    "finished",
)  # in the order of the view


@dataclass
class SweepProgress:
    """A sweep folder as a view shows it."""

    folder: SweepFolder
    jobs: list[JobEntry] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    version: tuple[int, int] = (0, 0)
    state: str = "finished"  # running, finished, stopped; killed: jobs say running, and no process works on them

    def update(self) -> None:
        """Read the jobs again if their file has changed, and find out whether a process works on them."""
        self._read_jobs()
        states = {job.state for job in self.jobs}
        n_done = sum(job.state in FINAL for job in self.jobs)
        if n_done == len(self.jobs) >= (self.settings.get("n_jobs") or 0):
            self.state = "finished"
        elif self.folder.is_at_work():
            self.state = "running"
        else:
            self.state = "killed" if "running" in states else "stopped"

    def _read_jobs(self) -> None:
        try:
            stat = self.folder.jobs_file.stat()
        except OSError:
            return
        if self.version != (stat.st_size, stat.st_mtime_ns):
            self.version = (stat.st_size, stat.st_mtime_ns)
            try:
                self.jobs, self.settings = self.folder.jobs(), self.folder.settings()
            except UserError:
                self.jobs, self.settings = [], {}

    def summary(self) -> str:
        """Return the numbers of jobs in each state, such as "7 of 12 finished, 2 running"."""
        counts = Counter(
            "killed" if self.state == "killed" and job.state == "running" else job.state
            for job in self.jobs
        )
        total = self.settings.get("n_jobs") or len(self.jobs)
        parts = [f"{counts.pop('finished', 0)} of {total} jobs finished"]
        return ", ".join([*parts, *(f"{count} {state}" for state, count in counts.items())])


class FolderState:
    """The runs and sweeps of a folder; `update` finds new ones and reads what has changed.

    Args:
        names: runs and sweeps to follow; a sweep brings its runs. Empty: all that are in `outputs`.

    Raises:
        UserError: a name is neither a run nor a sweep.
    """

    def __init__(self, outputs: Path, names: Sequence[str] = ()) -> None:
        self.outputs, self.names = outputs, list(names)
        self.runs: dict[Path, RunProgress] = {}
        self.sweeps: dict[Path, SweepProgress] = {}
        for name in self.names:
            self._follow(name)

    def _follow(self, name: str) -> None:
        folder = find_run_or_sweep(name, self.outputs)
        if isinstance(folder, SweepFolder):
            self.sweeps[folder.path] = SweepProgress(folder)
        else:
            self.runs[folder.path] = RunProgress(folder)

    def update(self) -> None:
        """Find new runs and sweeps, and read what all of them have written."""
        if not self.names:
            for file in self.outputs.glob("*/sweep.json"):
                self.sweeps.setdefault(file.parent, SweepProgress(SweepFolder(file.parent)))
            paths = [file.parent for file in self.outputs.glob("*/config.yaml")]
            paths += self._paths_without_config(paths)
        for sweep in self.sweeps.values():
            sweep.update()
        if self.names:
            jobs = [(sweep.folder, job) for sweep in self.sweeps.values() for job in sweep.jobs]
            folders = [folder.run_folder(job) for folder, job in jobs]
            paths = [*self.runs, *(folder.path for folder in folders if folder)]
        for path in set(self.runs) - set(paths):  # renamed by fresh=true, or deleted
            del self.runs[path]
        for path in paths:
            self.runs.setdefault(path, RunProgress(RunFolder(path))).update()

    def _paths_without_config(self, known: Sequence[Path]) -> list[Path]:
        """Return the folders of runs that prepare their data: they hold a lock, and have no config.yaml yet."""
        holders = (self.outputs / file.stem for file in self.outputs.glob(".locks/*.json"))
        return [path for path in holders if path not in known and RunFolder(path).is_locked()]

    def sorted_runs(self) -> list[RunProgress]:
        """Return the runs that go on first, those that are finished last, the newest of each state first."""
        return sorted(
            self.runs.values(), key=lambda run: (_rank(run.state), -run.modified, run.name)
        )

    def evaluation_seconds(self, run: RunProgress) -> float | None:
        """Return the median time that finished runs of the same task and model size took to be evaluated."""
        kind = run.name.rsplit("-", 1)[0]
        known = [
            other.evaluation_seconds
            for other in self.runs.values()
            if other.evaluation_seconds is not None and other.name.rsplit("-", 1)[0] == kind
        ]
        return statistics.median(known) if known else None

    def sweep_seconds_left(self, sweep: SweepProgress) -> float | None:
        """Return the seconds until all jobs of a sweep are done, if as many run at a time as now.

        None where no job is running, or none has finished in one go.
        """
        total = sweep.settings.get("n_jobs") or len(sweep.jobs)
        folders = {job.number: sweep.folder.path.parent / str(job.run) for job in sweep.jobs}
        runs = [self.runs[path] for path in folders.values() if path in self.runs]
        running = [run for run in runs if run.state == "running"]
        times = [run.total_seconds for run in runs if run.total_seconds is not None]
        if not running or not times:
            return None
        job_seconds = statistics.median(times)
        left = [run.seconds_left(self.evaluation_seconds(run)) for run in running]
        done = sum(job.state in FINAL for job in sweep.jobs)
        waiting = max(0, total - done - len(running))
        known = [job_seconds / 2 if seconds is None else seconds for seconds in left]
        return (sum(known) + waiting * job_seconds) / len(running)


def _rank(state: str) -> int:
    return STATES.index(state) if state in STATES else len(STATES)
