"""How the jobs of a sweep ended. A file, since a launcher may run them in other processes or on other machines."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Job:
    overrides: list[str]
    folder: str | None  # None: it did not get so far
    said: str  # the headline metric, or what went wrong
    code: int = 0  # the exit code that it would have had by itself


class JobLog:
    def __init__(self, folder: Path) -> None:
        self.file = folder / f".jobs-{os.uname().nodename}-{os.getpid()}.jsonl"

    def add(self, job: Job) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open(
            "a"
        ) as out:  # one write of less than a page: jobs that end together do not mix
            out.write(json.dumps(asdict(job)) + "\n")

    def take(self) -> list[Job]:
        """All jobs so far; the file is gone then."""
        if not self.file.is_file():
            return []
        jobs = [Job(**json.loads(line)) for line in self.file.read_text().splitlines()]
        self.file.unlink()
        return jobs
