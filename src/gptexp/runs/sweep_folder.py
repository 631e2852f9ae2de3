"""The sweep folder: the jobs of a sweep and the state of each. The runs themselves lie beside it, in their own folders.

sweep.json    name, command, swept keys, seeds, primary metric
jobs.jsonl    one object for each change of a job's state; lines are only ever appended
logs/         the output of each job that ran in a process of its own
results.csv   the table that the sweep prints
report.html   the same with curves
"""

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from filelock import FileLock

from gptexp.config.grammar import as_typed
from gptexp.errors import UserError, nearest
from gptexp.files import read_json_object, write_text
from gptexp.runs.run_folder import RunFolder, find_run

State = Literal["proposed", "running", "finished", "failed", "pruned", "stopped"]
FINAL = ("finished", "failed", "pruned")
SETTINGS = "sweep.json"
AT_WORK = ".at_work"  # locked by each process that works on the sweep


@dataclass(frozen=True)
class JobEntry:
    """One line of jobs.jsonl: a job and its state at that time."""

    number: int  # from 1 on
    overrides: list[str]  # as Hydra parses them
    state: State
    run: str | None = None  # name of the run folder, once it is known
    reason: str | None = None  # why it failed, or was pruned or stopped
    code: int = 0  # exit code of the job, had it run by itself
    time: str = ""

    @property
    def words(self) -> list[str]:
        """The overrides as a person types them."""
        return [as_typed(word) for word in self.overrides]


class SweepFolder:
    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.jobs_file = self.path / "jobs.jsonl"
        self.logs = self.path / "logs"
        self.results_file = self.path / "results.csv"
        self.report_file = self.path / "report.html"
        self._lock = FileLock(self.path / ".lock")  # reentrant

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        command: Sequence[str],
        keys: Sequence[str],
        seeds: Sequence[int] | None = None,
        seeds_for: str = "all",
        objective: str = "val/loss",
        margin: float = 0.0,
        n_jobs: int | None = None,
    ) -> Self:
        """Create the folder, or open it where an earlier command has created it; sweep.json is that of this command.

        Args:
            keys: swept settings, without the seed.
            seeds: None: no seed is swept.
            seeds_for: the configs that get all seeds: `all`, or those that are `undecided`.
            objective: the metric that further seeds are to decide, or `primary_metric`.
            margin: smallest difference of the objective that matters.
            n_jobs: number of all jobs; None: it is not known beforehand.
        """
        folder = cls(path)
        folder.path.mkdir(parents=True, exist_ok=True)
        with folder.lock():
            folder.update_settings(
                name=folder.name,
                command=list(command),
                keys=list(keys),
                created=folder.settings().get("created", _now()),
                seeds=None if seeds is None else list(seeds),
                seeds_for=seeds_for,
                objective=objective,
                margin=margin,
                n_jobs=n_jobs,
            )
        return folder

    def settings(self) -> dict[str, Any]:
        """Return the content of sweep.json; primary_metric and higher_is_better are null until a job has finished.

        Raises:
            UserError: the file is damaged.
        """
        file = self.path / SETTINGS
        try:
            values = read_json_object(file)
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(
                f"{file}: is damaged ({error}). Delete it and repeat the sweep's command"
            ) from None
        return {"primary_metric": None, "higher_is_better": None, **values}

    def update_settings(self, **values: Any) -> None:
        """Set entries of sweep.json and keep its others."""
        values = {**self.settings(), **values}
        text = json.dumps(values, indent=1, ensure_ascii=False)
        write_text(self.path / SETTINGS, text + "\n")

    def archive(self) -> Path:
        """Rename the folder to NAME.1, NAME.2, ...: `fresh=true` deletes nothing."""
        return RunFolder(self.path).archive()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the folder, for what reads the jobs and then adds to them."""
        with self._lock:
            yield

    @contextmanager
    def work(self) -> Iterator[None]:
        """Mark this process as one that works on the sweep. The system takes the mark away when the process ends."""
        with (self.path / AT_WORK).open("wb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            yield

    def is_at_work(self) -> bool:
        """Return whether a process works on the sweep, or on one of its runs."""
        with suppress(FileNotFoundError), (self.path / AT_WORK).open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        runs = [self.run_folder(job) for job in self.jobs() if job.state == "running"]
        return any(run.is_locked() for run in runs if run)

    def add(self, entry: JobEntry) -> None:
        """Append the new state of a job to jobs.jsonl."""
        line = json.dumps(asdict(replace(entry, time=entry.time or _now())), ensure_ascii=False)
        with self.lock(), self.jobs_file.open("a+b") as out:
            if out.tell() and not _ends_with_newline(self.jobs_file):  # a writer was killed
                line = f"\n{line}"
            out.write(f"{line}\n".encode())

    def jobs(self) -> list[JobEntry]:
        """Return the newest state of each job, in the order of their numbers."""
        newest: dict[int, JobEntry] = {}
        for line in self._lines():
            if entry := _read_entry(line):
                before = newest.get(entry.number)
                run = entry.run or (before.run if before else None)
                newest[entry.number] = replace(entry, run=run)
        return [newest[number] for number in sorted(newest)]

    def job(self, number: int) -> JobEntry:
        return next(entry for entry in self.jobs() if entry.number == number)

    def find_same_failure(self, entry: JobEntry) -> int | None:
        """Return the number of the first job before a failed one with the same reason; None: there is none."""
        if entry.state != "failed":
            return None
        same = (
            job.number for job in self.jobs() if (job.state, job.reason) == ("failed", entry.reason)
        )
        return next((number for number in same if number < entry.number), None)

    def run_folder(self, entry: JobEntry) -> RunFolder | None:
        """Return the run folder of a job; None before there is one."""
        path = self.path.parent / entry.run if entry.run else None
        return RunFolder(path) if path and path.is_dir() else None

    def configs(self) -> dict[tuple[str, ...], list[JobEntry]]:
        """Return the jobs by their config: the words in which the configs of the sweep differ, without the seed."""
        jobs = self.jobs()
        words = {job.number: _without_seed(job.words) for job in jobs}
        shared = set.intersection(*map(set, words.values())) if jobs else set()
        configs: dict[tuple[str, ...], list[JobEntry]] = {}
        for job in jobs:
            config = tuple(word for word in words[job.number] if word not in shared)
            configs.setdefault(config, []).append(job)
        return configs

    def _lines(self) -> list[str]:
        file = self.jobs_file
        return file.read_text("utf8", "replace").split("\n") if file.is_file() else []


def find_sweep(name: str, outputs: Path = Path("outputs")) -> SweepFolder:
    """Find a sweep folder by path, by its name inside `outputs`, or as `latest`.

    Raises:
        UserError: there is none.
    """
    sweeps = [file.parent for file in outputs.glob(f"*/{SETTINGS}")]
    if name == "latest" and sweeps:
        return SweepFolder(max(sweeps, key=lambda sweep: (sweep / SETTINGS).stat().st_mtime))
    for path in (Path(name).expanduser(), outputs / name):
        if is_sweep(path):
            return SweepFolder(path)
    known = sorted(sweep.name for sweep in sweeps)
    reason = f"it has no {SETTINGS}" if Path(name).exists() else "there is no such folder"
    raise UserError(
        f"{name}: not a sweep folder ({reason}).{nearest(name, known)} "
        f"Sweeps here: {', '.join(known) or 'none'}"
    )


def find_run_or_sweep(name: str, outputs: Path = Path("outputs")) -> RunFolder | SweepFolder:
    """Find a run or a sweep by path, or by its name inside `outputs`; `latest` is the latest run.

    Raises:
        UserError: there is neither.
    """
    for path in (Path(name).expanduser(), outputs / name):
        if is_sweep(path):
            return SweepFolder(path)
    try:
        return find_run(name, outputs)
    except UserError as error:
        sweeps = sorted(file.parent.name for file in outputs.glob(f"*/{SETTINGS}"))
        if not sweeps:
            raise
        message = f"{error}. Sweeps here: {', '.join(sweeps)}.{nearest(name, sweeps)}"
    raise UserError(message)


def is_sweep(path: Path) -> bool:
    """Return whether a folder is that of a sweep."""
    return (path / SETTINGS).is_file()


def _without_seed(words: list[str]) -> list[str]:
    return [word for word in words if not word.startswith("seed=")]


def _read_entry(line: str) -> JobEntry | None:
    """Return the job of a line; None: the line was cut short."""
    try:
        entry = JobEntry(**json.loads(line))
    except (ValueError, TypeError):
        return None
    return entry if entry.state in get_args(State) else None


def _ends_with_newline(file: Path) -> bool:
    with file.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1) == b"\n"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
