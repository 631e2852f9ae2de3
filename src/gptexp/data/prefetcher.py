"""Batches that a thread prepares while a GPU computes the one before."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader

from gptexp.data.batch import Batch
from gptexp.data.read_ahead import ReadAhead

DEVICES = ("cuda",)  # a CPU computes the step itself, and a thread would take a core from it


class Prefetcher:
    """Iterates over the batches of a loader, one batch ahead.

    Args:
        prepare: is called with each batch, in the thread.
        device: whose pinned memory `prepare` allocates.
    """

    def __init__(
        self,
        loader: DataLoader | ReadAhead[Batch],
        prepare: Callable[[Batch], Batch],
        device: torch.device,
    ) -> None:
        self.loader, self.prepare, self.device = loader, prepare, device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.loader)
        with ThreadPoolExecutor(1, "prefetcher", initializer=self._use_device) as thread:
            following = thread.submit(self._next, batches)
            while (batch := following.result()) is not None:
                following = thread.submit(self._next, batches)
                yield batch

    def _next(self, batches: Iterator[Any]) -> Batch | None:
        batch = next(batches, None)
        return None if batch is None else self.prepare(batch)

    def _use_device(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
