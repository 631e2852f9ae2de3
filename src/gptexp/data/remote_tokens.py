"""The tokens of a split that lie behind a URL: read by blocks, verified, and kept in a cache on this machine."""

import os
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.data.block_cache import BlockCache
from gptexp.data.remote_files import (
    PATIENCE_SECONDS,
    FileRange,
    LastingDataError,
    RemoteDataError,
    RemoteFiles,
)
from gptexp.data.shards import BLOCK_BYTES
from gptexp.errors import explain_environment_error

FETCHING_THREADS = 4  # that read ahead
MAX_BLOCKS_AHEAD = 16  # that a thread asks for at once: a slow network brings them in time
MAX_BLOCKS_OF_REQUEST = 16  # neighbours are read by one request


class RemoteTokens:
    """Reads ranges of tokens; the missing blocks of all ranges of a call are requested together.

    Args:
        shards: entries of the store's manifest.
    """

    is_local = False

    def __init__(
        self,
        files: RemoteFiles,
        shards: Sequence[dict[str, Any]],
        dtype: np.dtype,
        cache: BlockCache,
    ) -> None:
        self.files, self.cache, self.dtype = files, cache, dtype
        self.names = [shard["file"] for shard in shards]
        self.ends = np.cumsum([shard["tokens"] for shard in shards])
        self.process = os.getpid()
        self._start()

    def _start(self) -> None:
        self.lock = threading.Lock()
        self.in_flight: dict[int, threading.Event] = {}  # set when a thread is done with the block
        self.queue: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []

    def _enter_process(self) -> None:
        """Replace locks, threads and connections that this process has inherited by a fork."""
        if self.process != os.getpid():
            self.process = os.getpid()
            self.files.connect()
            self.cache.open()
            self._start()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, piece: slice, /) -> NDArray:
        start, stop, step = piece.indices(len(self))
        if step != 1:
            raise ValueError("tokens are read without a step")
        return self.read(np.array([start]), np.array([max(0, stop - start)]))[0]

    def read(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray]:
        """Return the tokens of each range.

        Raises:
            RemoteDataError: the server does not give them, or the cache folder does not take them.
        """
        self._enter_process()
        try:
            return self._read(starts, lengths)
        except OSError as error:
            raise RemoteDataError(str(explain_environment_error(error) or error)) from None

    def _read(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray]:
        self.cache.shrink()
        pieces = [self._locate(*one) for one in zip(starts, lengths, strict=True)]
        blocks = self._blocks_of(chain.from_iterable(pieces))
        contents: list[bytes] = []
        while len(contents) < len(pieces):  # again, if another process has removed a file
            self._fetch_missing(blocks)
            for of_range in pieces[len(contents) :]:
                parts = [self.cache.read(*piece) for piece in of_range]
                if any(part is None for part in parts):
                    break
                contents.append(b"".join(part for part in parts if part))
        return [np.frombuffer(content, self.dtype) for content in contents]

    def prefetch(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        self._enter_process()
        pieces = [self._locate(*one) for one in zip(starts, lengths, strict=True)]
        with self.lock:
            blocks = [
                block
                for block in self._blocks_of(chain.from_iterable(pieces))
                if block not in self.in_flight and not self.cache.verified[block]
            ]
            self.in_flight |= {block: threading.Event() for block in blocks}
        for first in range(0, len(blocks), MAX_BLOCKS_AHEAD):
            self.queue.put(blocks[first : first + MAX_BLOCKS_AHEAD])
        while blocks and len(self.threads) < FETCHING_THREADS:
            self.threads.append(threading.Thread(target=self._fetch_queued, daemon=True))
            self.threads[-1].start()

    def _fetch_queued(self) -> None:
        while True:
            blocks = self.queue.get()
            try:
                self._fetch([block for block in blocks if not self.cache.has(block)], patience=0)
            except Exception:
                pass  # `read` tries again, and reports it
            finally:
                with self.lock:
                    for block in blocks:
                        self.in_flight.pop(block).set()

    def _fetch_missing(self, blocks: list[int]) -> None:
        missing = [block for block in blocks if not self.cache.has(block)]
        with self.lock:
            events = {block: self.in_flight[block] for block in missing if block in self.in_flight}
        self._fetch([block for block in missing if block not in events], PATIENCE_SECONDS)
        for event in events.values():
            event.wait()
        self._fetch([block for block in events if not self.cache.has(block)], PATIENCE_SECONDS)

    def _fetch(self, blocks: list[int], patience: float) -> None:
        """Request blocks and keep them; those that come damaged are requested once more."""
        damaged = self._request(self._request(blocks, patience), patience)
        if damaged:
            shard, start, end = self.cache.span(damaged[0], damaged[0])
            raise LastingDataError(
                f"data.path={self.files.url}/{self.names[shard]}: bytes {start:,} to {end:,} do not have the digest "
                f"that was written with the store. Copy the store there again"
            )

    def _request(self, blocks: list[int], patience: float) -> list[int]:
        """Request blocks and keep them; return those that came damaged."""
        if not blocks:
            return []
        damaged, runs = [], list(self._runs(blocks))
        spans = [self.cache.span(run[0], run[-1]) for run in runs]
        ranges = [FileRange(self.names[shard], start, end) for shard, start, end in spans]
        for run, content in zip(runs, self.files.read(ranges, patience), strict=True):
            for number, block in enumerate(run):
                part = content[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
                if not self.cache.put(block, part):
                    damaged.append(block)
        return damaged

    def _runs(self, blocks: list[int]) -> Iterator[list[int]]:
        """Divide sorted blocks into runs of neighbours in one shard."""
        run: list[int] = []
        for block in blocks:
            if run and (
                block != run[-1] + 1
                or block in self.cache.first
                or len(run) == MAX_BLOCKS_OF_REQUEST
            ):
                yield run
                run = []
            run.append(block)
        yield run

    def _locate(self, start: int, length: int) -> list[tuple[int, int, int]]:
        """Return the shards, and the bytes from and to in each, of a range of tokens."""
        pieces, size = [], self.dtype.itemsize
        end = min(int(start) + int(length), len(self))
        shard = int(np.searchsorted(self.ends, start, side="right"))
        while start < end:
            first = int(self.ends[shard - 1]) if shard else 0
            last = min(end, int(self.ends[shard]))
            pieces.append((shard, (int(start) - first) * size, (last - first) * size))
            start, shard = last, shard + 1
        return [piece for piece in pieces if piece[1] < piece[2]]

    def _blocks_of(self, pieces: Iterable[tuple[int, int, int]]) -> list[int]:
        return sorted({block for piece in pieces for block in self.cache.blocks_of(*piece)})
