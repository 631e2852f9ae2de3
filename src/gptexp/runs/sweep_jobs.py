"""The outcomes of a sweep's jobs, in a file: a launcher may run the jobs in other processes or on other machines."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass
class Job:
    overrides: list[str]
    folder: str | None  # None: the job failed
    outcome: str  # the primary metric, or the error message
    code: int = 0  # exit code of the job, had it run by itself
    rank: tuple[float, float] | None = None  # the best job has the least; None: it has no metrics


class JobLog:
    """Outcomes of jobs: in memory where they run in this process, or else in a file."""

    def __init__(self, folder: Path) -> None:
        self.process, self.jobs = os.getpid(), list[Job]()
        self.file = folder / f".jobs-{os.uname().nodename}-{self.process}.jsonl"

    def add(self, job: Job) -> None:
        if os.getpid() == self.process:
            self.jobs.append(job)
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # One write of less than a page: lines of jobs that end together do not mix.
        with self.file.open("a", encoding="utf8") as out:
            out.write(json.dumps(asdict(job)) + "\n")

    def drain(self) -> list[Job]:
        """Return all jobs so far and delete the file."""
        jobs, self.jobs = self.jobs, []
        if self.file.is_file():
            lines = self.file.read_text("utf8").splitlines()
            jobs += [_read_job(json.loads(line)) for line in lines]
            self.file.unlink()
        return jobs


def describe_waiting(overrides: list[str]) -> str | None:
    """Return where the jobs of a sweep write their logs, for launchers whose jobs print nothing in this terminal."""
    values = dict(word.split("=", 1) for word in overrides if "=" in word)
    if values.get("hydra/launcher") not in ("submitit", "slurm"):
        return None
    outputs = values.get("outputs", "outputs").strip("'\"")
    return f"waiting for the jobs of the sweep; their logs: {outputs}/.submitit/"


def _read_job(entry: dict[str, Any]) -> Job:
    rank = entry.pop("rank")
    return Job(**entry, rank=tuple(rank) if rank else None)
