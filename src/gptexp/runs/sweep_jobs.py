"""The outcomes of a sweep's jobs, in a file: a launcher may run the jobs in other processes or on other machines."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Job:
    overrides: list[str]
    folder: str | None  # None: the job failed
    outcome: str  # the primary metric, or the error message
    code: int = 0  # exit code of the job, had it run by itself


class JobLog:
    def __init__(self, folder: Path) -> None:
        self.file = folder / f".jobs-{os.uname().nodename}-{os.getpid()}.jsonl"

    def add(self, job: Job) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # One write of less than a page: lines of jobs that end together do not mix.
        with self.file.open("a", encoding="utf8") as out:
            out.write(json.dumps(asdict(job)) + "\n")

    def drain(self) -> list[Job]:
        """Return all jobs so far and delete the file."""
        if not self.file.is_file():
            return []
        jobs = [Job(**json.loads(line)) for line in self.file.read_text("utf8").splitlines()]
        self.file.unlink()
        return jobs
