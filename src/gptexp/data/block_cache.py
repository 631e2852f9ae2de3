"""Blocks of a store's shards in files on this machine.

There is a file for each shard, with holes where it has no blocks. A block is there if its digest is that of the store:
one that was written in half, or has changed since, is missing. A process compares it once, as long as it has the file
open. Several processes can share the files.
"""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gptexp.data.shards import BLOCK_BYTES, block_digest

MAX_OPEN_FILES = 256
MEASURED_SHARE = (
    0.02  # of the limit: so much is written before the size of all files is measured again
)
KEPT_SHARE = 0.9  # of the limit, where files are removed
USE_SECONDS = 60.0  # between two notes that a file is in use


class BlockCache:
    """The blocks of the shards of a split, numbered through all shards.

    Args:
        folder: of the files, CACHE/STORE/blocks. Those of other stores in CACHE count towards the limit.
        sizes: bytes of each shard.
        sums: [blocks, DIGEST_BYTES] digests.
        limit: bytes on the disk; beyond it the files are removed that were used longest ago.
    """

    def __init__(
        self, folder: Path, split: str, sizes: Sequence[int], sums: NDArray[np.uint8], limit: int
    ) -> None:
        self.folder, self.split, self.sizes = folder, split, sizes
        self.sums, self.limit = sums, limit
        self.first = np.cumsum([0, *(count_blocks(size) for size in sizes)])  # block of a shard
        self.open()

    def open(self) -> None:
        """Start without open files; a process that was forked needs its own."""
        self.lock = threading.RLock()
        self.files: dict[int, int] = {}  # descriptors by shard
        self.used: dict[int, float] = {}  # when the use of a shard's file was noted
        self.verified = np.zeros(self.first[-1], bool)  # blocks, as long as the file is open
        self.unmeasured = float("inf")  # bytes that were written since the size was measured

    def span(self, first: int, last: int) -> tuple[int, int, int]:
        """Return the shard of neighbouring blocks, and the bytes from and to that they have in it."""
        shard = int(np.searchsorted(self.first, first, side="right")) - 1
        offset = int(self.first[shard])
        start, end = (first - offset) * BLOCK_BYTES, (last + 1 - offset) * BLOCK_BYTES
        return shard, start, min(end, self.sizes[shard])

    def blocks_of(self, shard: int, start: int, end: int) -> range:
        """Return the blocks that hold bytes of a shard."""
        first = int(self.first[shard])
        return range(first + start // BLOCK_BYTES, first + count_blocks(end))

    def has(self, block: int) -> bool:
        shard, start, end = self.span(block, block)
        with self.lock:
            file = self._file(shard)
            if not self.verified[block]:
                content = os.pread(file, end - start, start)
                self.verified[block] = self._is_intact(block, content)
            return bool(self.verified[block])

    def put(self, block: int, content: bytes) -> bool:
        """Keep a block; False if its content is not that of the store."""
        if not self._is_intact(block, content):
            return False
        shard, start, _ = self.span(block, block)
        with self.lock:
            file = self._file(shard)
            try:
                _write(file, content, start)
            except OSError as error:
                error.filename = str(self._path(shard))
                raise
            self.verified[block] = True
            self.unmeasured += len(content)
        return True

    def read(self, shard: int, start: int, end: int) -> bytes | None:
        """Return bytes of a shard; None if one of their blocks is missing."""
        blocks = self.blocks_of(shard, start, end)
        with self.lock:
            file = self._file(shard)
            if not self.verified[blocks.start : blocks.stop].all():
                return None
            content = os.pread(file, end - start, start)
            if len(content) < end - start:  # somebody has cut the file
                self._forget(shard)
                return None
            self._note_use(shard, file)
            return content

    def shrink(self) -> None:
        """Remove files if they are beyond the limit."""
        if self.unmeasured < MEASURED_SHARE * self.limit:
            return
        self.unmeasured = 0
        stats = []
        for path in self.folder.parent.parent.glob("*/blocks/*"):
            try:
                stats.append((path.stat(), path))
            except FileNotFoundError:  # another process has removed it
                continue
        total = sum(stat.st_blocks * 512 for stat, _ in stats)
        if total <= self.limit:
            return
        for stat, path in sorted(stats, key=lambda entry: entry[0].st_mtime):
            path.unlink(missing_ok=True)
            total -= stat.st_blocks * 512
            if total <= KEPT_SHARE * self.limit:
                return

    def _is_intact(self, block: int, content: bytes) -> bool:
        return block_digest(content) == self.sums[block].tobytes()

    def _file(self, shard: int) -> int:
        """Return the descriptor of a shard's file. It is opened anew if the file was removed."""
        file = self.files.get(shard)
        if file is not None:
            if os.fstat(file).st_nlink:
                return file
            self._close(shard)
        if len(self.files) == MAX_OPEN_FILES:
            self._close(next(iter(self.files)))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files[shard] = os.open(self._path(shard), os.O_RDWR | os.O_CREAT, 0o644)
        return self.files[shard]

    def _close(self, shard: int) -> None:
        os.close(self.files.pop(shard))
        self._forget(shard)

    def _forget(self, shard: int) -> None:
        """Compare the blocks of a shard anew before they are read."""
        self.verified[self.first[shard] : self.first[shard + 1]] = False

    def _note_use(self, shard: int, file: int) -> None:
        """Make the file one of those that `shrink` removes last."""
        now = time.monotonic()
        if now - self.used.get(shard, -USE_SECONDS) >= USE_SECONDS:
            self.used[shard] = now
            os.utime(file)

    def _path(self, shard: int) -> Path:
        return self.folder / f"{self.split}-{shard:05}"


def _write(file: int, content: bytes, start: int) -> None:
    """Write all bytes; a disk that becomes full takes a part of them and raises an error for the rest."""
    rest = memoryview(content)
    while rest:
        count = os.pwrite(file, rest, start)
        rest, start = rest[count:], start + count


def count_blocks(size: int) -> int:
    """Return the number of blocks of so many bytes."""
    return -(-size // BLOCK_BYTES)
