"""Signals that stop a run: it finishes and saves the step in progress, then the process ends with code 75.

SIGTERM comes from schedulers and `kill`, SIGINT from Ctrl-C, and SIGUSR1 from SLURM (`--signal=USR1@120`) before the
time of a job is over. A second Ctrl-C stops at once.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from gptexp.errors import Preempted, RunError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest(NamedTuple):
    """A reason of the program itself to stop the run.

    Attributes:
        name: goes on after "stopped by".
        is_failure: the same command cannot continue before somebody has done what the details say.
    """

    name: str
    details: str
    is_failure: bool


class StopSignals:
    """Raises Preempted as soon as a signal arrives, or, inside `delay_stop`, at the end of it.

    Python drops an exception that a handler raises inside of a `__del__`: call `raise_if_received` between two stages.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | StopRequest | None = None
        self._is_delayed = False

    @contextmanager
    def handle(self) -> Iterator["StopSignals"]:
        """Handle signals inside the context, and restore the earlier handlers after it."""
        before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self.install()
        try:
            yield self
        finally:
            if _is_main_thread():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def install(self) -> None:
        """Install the handlers; only the main thread can."""
        if _is_main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, self._receive)

    @contextmanager
    def delay_stop(self) -> Iterator[None]:
        """Only note signals inside the context; raise Preempted after it if one has arrived."""
        self._is_delayed = True
        try:
            yield
        finally:
            self._is_delayed = False
        self.raise_if_received()

    def request(self, name: str, details: str, is_failure: bool) -> None:
        """Stop the run for a reason of its own, as a signal would."""
        self.received = StopRequest(name, details, is_failure)

    def raise_if_received(self) -> None:
        """Raise Preempted if a signal has arrived, or the error of a request."""
        if self.received is not None:
            raise explain_stop(self.received)

    def _receive(self, number: int, _: Any) -> None:
        if self.received is not None and number == signal.SIGINT:
            os._exit(130)
        self.received = signal.Signals(number)
        if not self._is_delayed:
            self.raise_if_received()
        if number == signal.SIGINT:
            print_first_interrupt()


def explain_stop(
    reason: signal.Signals | StopRequest, step: int | None = None
) -> Preempted | RunError:
    """Return the error that ends a run which is stopped for a reason.

    Args:
        step: is saved.
    """
    place = f" after step {step}, which is saved" if step is not None else ""
    if not isinstance(reason, StopRequest):
        return Preempted(f"{reason.name}{place}")
    text = f"{reason.name}{place}: {reason.details}"
    if reason.is_failure:
        return RunError(f"stopped by {text}. Then repeat the command")
    return Preempted(text)


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Let signals end the process inside the context: a library that waits in C++ never calls Python's handlers."""
    numbers = STOP_SIGNALS if _is_main_thread() else ()
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interrupts() -> None:
    """Ignore Ctrl-C from now on."""
    if _is_main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def print_first_interrupt() -> None:
    print(
        "finishing and saving the current step; press Ctrl-C again to stop at once",
        file=sys.stderr,
        flush=True,
    )


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def requeue_slurm_job() -> None:
    """Put this SLURM job back into the queue, where its command resumes; outside of SLURM, do nothing."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if not re.fullmatch(r"\d+(_\d+)?", job):
        return
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        print(f"SLURM job {job} is back in the queue", file=sys.stderr)
    else:
        print(f"scontrol requeue {job} failed: {done.stderr.strip()}", file=sys.stderr)
