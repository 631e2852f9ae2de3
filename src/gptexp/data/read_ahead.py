"""Batches of which the next one is there before a step begins, for data that a network is in between.

So the step of a batch still runs where the next batch cannot be had, and the run is saved after it.
"""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, TimeoutError
from typing import Any, Protocol, TypeVar

from gptexp.data.remote_files import RemoteDataError

Item = TypeVar("Item")
POLL_SECONDS = 0.2


class StopRequests(Protocol):
    """What stops a run after the step in progress."""

    received: Any  # None: nothing does

    def request(self, name: str, details: str, is_failure: bool) -> None:
        """Stop the run for this reason."""


class ReadAhead(Iterable[Item]):
    """Iterates over a loader, and stops the run where the loader cannot read.

    While it waits for the loader, a signal that stops the run ends it.
    """

    def __init__(self, loader: Any, signals: StopRequests) -> None:
        self.loader, self.signals = loader, signals

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Item]:
        items = iter(self.loader)
        reading = _begin_next(items)
        item = self._wait(reading)
        if item is not None:
            reading = _begin_next(items)
        while item is not None:
            following = self._wait(reading)
            if following is not None:
                reading = _begin_next(items)  # during the step of `item`
            yield item
            item = following

    def _wait(self, reading: Future[Item | None]) -> Item | None:
        """Return an item; None behind the last one, and where the run has to stop."""
        while self.signals.received is None:
            try:
                return reading.result(POLL_SECONDS)
            except TimeoutError:
                if reading.done():  # the loader's own
                    raise
            except RemoteDataError as error:
                # A worker process puts its traceback before the message.
                details = str(error).rpartition(f"{type(error).__name__}: ")[2].strip()
                self.signals.request("missing data", details, error.is_lasting)
        return None


def _begin_next(items: Iterator[Item]) -> Future[Item | None]:
    """Begin to read the next item in a thread."""
    reading: Future[Item | None] = Future()

    def read() -> None:
        try:
            reading.set_result(next(items, None))
        except BaseException as error:
            reading.set_exception(error)

    # A daemon: it may wait for minutes for a server, and must not keep the process from ending.
    threading.Thread(target=read, name="read-ahead", daemon=True).start()
    return reading
