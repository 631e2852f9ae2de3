"""Stages of a run, such as reading data: whoever waits for one reads within seconds what is done, and how far it is."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_SECONDS = 2.0  # a stage that is over by then prints nothing
SECONDS_BETWEEN_LINES = 10.0
POLL_SECONDS = 0.1


class Stage:
    """One thing that a run does, with its lines on stderr."""

    def __init__(self, describe: Callable[[], str], is_quiet: bool) -> None:
        self.describe, self.is_quiet = describe, is_quiet
        self.start = time.monotonic()
        self.next_line = self.start + FIRST_SECONDS

    def report(self) -> None:
        """Print a line, if one is due."""
        now = time.monotonic()
        if now < self.next_line or self.is_quiet:
            return
        self.next_line = now + SECONDS_BETWEEN_LINES
        line = f"{self.describe()} ({now - self.start:.0f} s)\n"
        print(line, end="", file=sys.stderr, flush=True)  # at once: other threads print, too


class Watcher:
    """Reports the innermost stage from a thread of its own, which runs while there is a stage."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self._over = threading.Event()

    def push(self, stage: Stage) -> None:
        self.stages.append(stage)
        if len(self.stages) == 1:
            self._over = threading.Event()
            threading.Thread(target=self._watch, args=(self._over,), daemon=True).start()

    def remove(self, stage: Stage) -> None:
        self.stages.remove(stage)
        if not self.stages:
            self._over.set()
        else:  # the stage around it has its own time again
            outer = self.stages[-1]
            outer.next_line = max(outer.next_line, time.monotonic() + FIRST_SECONDS)

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(POLL_SECONDS):
            for stage in self.stages[-1:]:
                stage.report()


WATCHER = Watcher()  # of this process, as its stderr is


@contextmanager
def stage(describe: str | Callable[[], str], is_quiet: bool = False) -> Iterator[None]:
    """Report the block on stderr: after two seconds, and from then on every ten.

    Args:
        describe: what is done, or a function that returns it together with how far it is.
        is_quiet: the block reports itself; stages around it are silent, too.
    """
    current = Stage(describe if callable(describe) else lambda: str(describe), is_quiet)
    WATCHER.push(current)
    try:
        yield
    finally:
        WATCHER.remove(current)
