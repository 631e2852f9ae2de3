"""The thread that owns the model: it computes for all requests, and no other thread touches the model."""

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from gptexp.serving.running_batch import Answer, RunningBatch

SECONDS_TO_END = 2.0
GATHER_SECONDS = 0.01  # an idle worker waits so long for requests that share the first prefill


class QueueFullError(Exception):
    """More answers wait than the server holds."""


class Worker:
    """Decodes answers in one batch, and runs other computations one at a time between its steps.

    Args:
        max_waiting: answers and computations that may wait for their turn.
    """

    def __init__(self, batch: RunningBatch, max_waiting: int) -> None:
        self.batch, self.max_waiting = batch, max_waiting
        self._waiting: deque[Answer] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def submit(self, answers: Sequence[Answer]) -> None:
        """Let answers wait for their place in the batch.

        Raises:
            QueueFullError: there is no room for them to wait.
        """
        with self._changed:
            self._check_room(len(answers))
            self._waiting += answers
            self._changed.notify()

    def call(self, compute: Callable[[], Any]) -> "Future[Any]":
        """Let a computation wait for its turn; the future has its result.

        Raises:
            QueueFullError: there is no room for it to wait.
        """
        future: Future[Any] = Future()
        with self._changed:
            self._check_room(1)
            self._calls.append((compute, future))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """End the thread after its current step; a long search does not keep the process."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(SECONDS_TO_END)

    @property
    def waiting(self) -> int:
        """The number of answers and computations that wait for their turn."""
        return len(self._waiting) + len(self._calls)

    def _check_room(self, count: int) -> None:
        if self.waiting + count > self.max_waiting:
            self._waiting = deque(answer for answer in self._waiting if not answer.is_cancelled)
            self._calls = deque(call for call in self._calls if not call[1].cancelled())
        if self.waiting + count > self.max_waiting:
            raise QueueFullError(
                f"{self.waiting} answers wait already, and the server holds {self.max_waiting}: "
                f"try again later, or start it with a larger --max-waiting"
            )

    def _run(self) -> None:
        while self._wait():
            self._run_call()
            self._decode()

    def _wait(self) -> bool:
        """Return True once there is work, or False at the end."""
        with self._changed:
            self._changed.wait_for(self._has_work)
            if self._is_stopping:
                return False
            if not self.batch.answers and self._waiting:
                full = time.monotonic() + GATHER_SECONDS
                while len(self._waiting) < self.batch.max_rows and not self._is_stopping:
                    if not self._changed.wait(full - time.monotonic()):
                        break
            return not self._is_stopping

    def _has_work(self) -> bool:
        return bool(self._is_stopping or self.batch.answers or self._waiting or self._calls)

    def _run_call(self) -> None:
        with self._changed:
            if not self._calls:
                return
            compute, future = self._calls.popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(compute())
        except Exception as error:
            future.set_exception(error)

    def _decode(self) -> None:
        """Let waiting answers join, and compute a step."""
        answers = list(self.batch.answers)
        try:
            new = self._take_waiting()
            answers += new
            if new:
                self.batch.add(new)
            if self.batch.answers:
                for answer, piece in self.batch.step():
                    if isinstance(piece, Exception):
                        traceback.print_exception(piece, file=sys.stderr)
                    answer.deliver(piece)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            for answer in answers:  # also those that end in this step
                answer.deliver(error)
            self.batch.clear()

    def _take_waiting(self) -> list[Answer]:
        """Remove the answers that can join now from the queue, in the order of their requests."""
        new: list[Answer] = []
        with self._changed:
            while self._waiting:
                if self._waiting[0].is_cancelled:
                    self._waiting.popleft()
                elif self.batch.has_room(self._waiting[0], new):
                    new.append(self._waiting.popleft())
                else:
                    break
        return new
