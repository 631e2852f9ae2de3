"""Signals that ask a run to stop: the step in progress is finished and saved, then the process ends with code 75.

SIGTERM comes from schedulers and `kill`, SIGINT from Ctrl-C, SIGUSR1 from SLURM (`--signal=USR1@120`) before a job's
time is over. A second Ctrl-C stops at once.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gptexp.errors import Preempted

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignals:
    """Raises Stopped where nothing has to be saved; inside `deferred`, not before its end."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._is_deferred = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in WATCHED}
        self.watch()
        try:
            yield
        finally:
            if _may_handle():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def watch(self) -> None:
        if _may_handle():
            for number in WATCHED:
                signal.signal(number, self._handle)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        if self.asked is not None:
            raise Preempted(self.asked.name)

    def _handle(self, number: int, _: Any) -> None:
        if self.asked is not None and number == signal.SIGINT:
            os._exit(130)
        self.asked = signal.Signals(number)
        if not self._is_deferred:
            raise Preempted(self.asked.name)
        if number == signal.SIGINT:
            print(
                "finishing the step, then saving; Ctrl-C again stops at once",
                file=sys.stderr,
                flush=True,
            )


def _may_handle() -> bool:
    return threading.current_thread() is threading.main_thread()


def requeue() -> None:
    """Put this SLURM job back into the queue: its command goes on where it was saved."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if not re.fullmatch(r"\d+(_\d+)?", job):
        return
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    said = (
        f"requeued as SLURM job {job}"
        if done.returncode == 0
        else f"scontrol requeue {job}: {done.stderr.strip()}"
    )
    print(said, file=sys.stderr)
