"""Blocks in files on this machine: partial writes, files that others cut or remove, and which ones go first."""

import os
import shutil

import numpy as np
import pytest

from gptexp.data import block_cache
from gptexp.data.block_cache import BlockCache
from gptexp.data.shards import block_digest

BLOCK = 1024
CONTENT = [bytes([number]) * BLOCK for number in range(1, 5)]


@pytest.fixture
def cache(own_folder, monkeypatch):
    """Two shards of two blocks."""
    monkeypatch.setattr(block_cache, "BLOCK_BYTES", BLOCK)
    sums = np.frombuffer(b"".join(map(block_digest, CONTENT)), np.uint8).reshape(len(CONTENT), -1)
    folder = own_folder / "store" / "blocks"
    return BlockCache(folder, "train", [2 * BLOCK, 2 * BLOCK], sums, 10**9)


def test_a_block_that_the_disk_takes_in_parts_is_written_whole(cache, monkeypatch):
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, rest, start: write(file, rest[:300], start))
    assert cache.put(0, CONTENT[0])
    assert cache.read(0, 0, BLOCK) == CONTENT[0]


def test_a_block_that_the_disk_takes_a_part_of_is_missing(cache, monkeypatch):
    left = [300]

    def write_while_space_is_left(file, rest, start):
        if not left:
            raise OSError(28, "No space left on device")
        return write(file, rest[: left.pop()], start)

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", write_while_space_is_left)
    with pytest.raises(OSError, match=r"train-00000"):
        cache.put(0, CONTENT[0])
    assert not cache.has(0)
    assert cache.read(0, 0, BLOCK) is None


def test_blocks_of_a_file_that_is_cut_or_removed_while_it_is_open_are_missing(cache):
    for block, content in enumerate(CONTENT):
        cache.put(block, content)
    os.truncate(cache.folder / "train-00000", BLOCK + 1)
    assert cache.read(0, 0, 2 * BLOCK) is None
    assert [cache.has(block) for block in range(4)] == [True, False, True, True]
    shutil.rmtree(cache.folder)
    assert cache.read(1, 0, BLOCK) is None
    assert cache.put(2, CONTENT[2])
    assert cache.read(1, 0, BLOCK) == CONTENT[2]


def test_the_files_that_were_used_longest_ago_are_removed(cache):
    for block, content in enumerate(CONTENT):
        cache.put(block, content)
    for number in (0, 1):
        os.utime(cache.folder / f"train-0000{number}", (number, number))
    cache.read(0, 0, BLOCK)  # the older one
    cache.limit = int(1.5 * 512 * (cache.folder / "train-00000").stat().st_blocks)
    cache.shrink()
    assert [file.name for file in cache.folder.iterdir()] == ["train-00000"]
