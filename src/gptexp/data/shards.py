"""The tokens of a split in files of limited size, shards, with digests that verify any part of them.

meta.json of a token store lists the shards of each split in the order of the tokens:

    "shards": {"train": [{"file": "train.tokens", "tokens": 134217728}, {"file": "train-00001.tokens", ...}], ...}

Beside them, train.sums has a digest of each block of each shard, so that a part of a shard can be verified that a
network has brought.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

SHARD_TOKENS = 1 << 27  # 256 MiB of 16-bit tokens
BLOCK_BYTES = 1 << 18
DIGEST_BYTES = 8


class ShardWriter:
    """Writes the tokens of a split, SHARD_TOKENS into each file."""

    def __init__(self, folder: Path, split: str, dtype: np.dtype) -> None:
        self.folder, self.split, self.dtype = folder, split, dtype
        self.shards: list[dict[str, Any]] = []
        self.file = self._open_next()

    def write(self, tokens: list[int]) -> None:
        rest = np.array(tokens, self.dtype)
        while len(rest):
            if self.shards[-1]["tokens"] == SHARD_TOKENS:
                self.file.close()
                self.file = self._open_next()
            part = rest[: SHARD_TOKENS - self.shards[-1]["tokens"]]
            self.file.write(part.tobytes())
            self.shards[-1]["tokens"] += len(part)
            rest = rest[len(part) :]

    def close(self) -> None:
        self.file.close()

    def _open_next(self) -> BinaryIO:
        number = len(self.shards)
        name = f"{self.split}-{number:05}.tokens" if number else f"{self.split}.tokens"
        self.shards.append({"file": name, "tokens": 0})
        return (self.folder / name).open("wb")


def shards_of(meta: dict[str, Any], split: str) -> list[dict[str, Any]]:
    """Return the shards of a split; a store without a list of them has one file a split."""
    default = [{"file": f"{split}.tokens", "tokens": meta["splits"][split]["tokens"]}]
    return meta.get("shards", {}).get(split, default)


def list_shards(meta: dict[str, Any]) -> dict[str, int]:
    """Return the number of tokens of each shard that has some, by its name, of all splits."""
    return {
        shard["file"]: shard["tokens"]
        for split, counts in meta["splits"].items()
        if counts["tokens"]
        for shard in shards_of(meta, split)
    }


def digest_file(path: Path) -> tuple[str, bytes]:
    """Return the sha256 of a file and the digests of its blocks, after reading it once."""
    total, digests = hashlib.sha256(), []
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            total.update(block)
            digests.append(block_digest(block))
    return total.hexdigest(), b"".join(digests)


def block_digest(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=DIGEST_BYTES).digest()


def digest_shards(folder: Path, split: str, shards: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Write the digests of all blocks of a split into SPLIT.sums; return the sha256 of each shard by its name."""
    hashes = {}
    with (folder / f"{split}.sums").open("wb") as sums:
        for shard in shards:
            hashes[shard["file"]], digests = digest_file(folder / shard["file"])
            sums.write(digests)
    return hashes
