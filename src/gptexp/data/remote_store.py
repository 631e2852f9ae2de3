"""Token stores behind a URL: small files are copied to this machine, the tokens are read by ranges."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from filelock import FileLock

from gptexp.data.block_cache import BlockCache, count_blocks
from gptexp.data.remote_files import FileRange, LastingDataError, RemoteDataError, RemoteFiles
from gptexp.data.remote_tokens import RemoteTokens
from gptexp.data.shards import DIGEST_BYTES, list_shards, shards_of
from gptexp.data.token_store import ExampleEncoder, TokenStore, open_store
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.files import atomic_write, loads_checked, sha256, short_hash

OPENING_SECONDS = 15.0  # in which a server must answer before a run begins
DOWNLOADS = 8  # at once
GIGABYTE = 10**9


def open_remote_store(
    url: str,
    encoder: ExampleEncoder,
    cache: Path,
    tokenizer: Tokenizer | None = None,
    cache_gb: float = 10.0,
) -> TokenStore:
    """Open a store that a URL names.

    Args:
        tokenizer: that of the initial weights, which must be the store's.
        cache_gb: gigabytes of tokens to keep on this machine.

    Raises:
        UserError: there is no store, or it was made for another task or tokenizer.
        RemoteDataError: the server does not answer.
    """
    try:
        files = RemoteFiles(url)
        folder, meta = copy_small_files(files, cache)
    except LastingDataError as error:
        raise UserError(str(error)) from None
    except RemoteDataError as error:
        raise RemoteDataError(
            f"{error}. Check the address and the network, then repeat the command"
        ) from None
    remote = ShardsBehindUrl(files, folder, meta, int(cache_gb * GIGABYTE))
    return open_store(folder, encoder, cache, tokenizer, remote)


class ShardsBehindUrl:
    """The shards of all splits of a store behind a URL.

    Args:
        folder: with copies of the other files.
        limit: bytes of tokens to keep on this machine.
    """

    def __init__(self, files: RemoteFiles, folder: Path, meta: dict[str, Any], limit: int) -> None:
        self.files, self.folder, self.meta, self.limit = files, folder, meta, limit
        self.url, self.names = files.url, list(list_shards(meta))
        self.splits: dict[str, RemoteTokens] = {}

    def tokens(self, split: str) -> RemoteTokens:
        """Return the tokens of a split."""
        if split not in self.splits:
            self.splits[split] = self._open(split)
        return self.splits[split]

    def _open(self, split: str) -> RemoteTokens:
        shards, dtype = shards_of(self.meta, split), np.dtype(self.meta["dtype"])
        sizes = [shard["tokens"] * dtype.itemsize for shard in shards]
        sums = np.fromfile(self.folder / f"{split}.sums", np.uint8)
        if len(sums) != DIGEST_BYTES * sum(map(count_blocks, sizes)):
            raise UserError(
                f"data.path={self.files.url}: {split}.sums has no digest for every block of the tokens. Build the "
                f"store again"
            )
        blocks = BlockCache(
            self.folder / "blocks", split, sizes, sums.reshape(-1, DIGEST_BYTES), self.limit
        )
        return RemoteTokens(self.files, shards, dtype, blocks)


def copy_small_files(files: RemoteFiles, cache: Path) -> tuple[Path, dict[str, Any]]:
    """Copy all files but the shards into a folder of the cache; return it and the content of meta.json.

    Raises:
        UserError: the files are not those of a store. RemoteDataError: one cannot be read.
    """
    word = f"data.path={files.url}"
    [text] = files.read([FileRange("meta.json")], OPENING_SECONDS)
    try:
        meta = loads_checked(text.decode())
        shards = list_shards(meta)
        names = {name: str(digest) for name, digest in meta["files"].items() if name not in shards}
        itemsize = np.dtype(meta["dtype"]).itemsize
        sizes = [tokens * itemsize for tokens in shards.values()]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{word}: its meta.json is not that of a token store") from None
    for name in (*names, *shards):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{word}: its meta.json names a file outside of the folder, {name}")
    if "train.sums" not in names:
        raise UserError(
            f"{word}: has no train.sums, the digests that verify tokens from a network. Build the store again"
        )
    folder = cache / "remote" / short_hash(f"{files.url} {text.decode()}")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        missing = [name for name, digest in names.items() if not _is_copy(folder / name, digest)]
        with ThreadPoolExecutor(DOWNLOADS) as threads:
            list(threads.map(lambda name: _copy(files, name, folder / name, names[name]), missing))
        copy = folder / "meta.json"
        if not copy.is_file() or copy.read_bytes() != text:  # other runs may be reading it
            with atomic_write(copy) as temporary:
                temporary.write_bytes(text)
    _check_sizes(files, list(shards), sizes)
    smallest = min((pair for pair in zip(sizes, shards, strict=True) if pair[0]), default=None)
    if smallest:  # does the server answer ranges; one that does not sends all of the file
        files.read([FileRange(smallest[1], 0, 1)], OPENING_SECONDS)
    return folder, meta


def _is_copy(file: Path, digest: str) -> bool:
    return file.is_file() and sha256(file) == digest


def _copy(files: RemoteFiles, name: str, target: Path, digest: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as temporary:
        for _ in range(2):  # a transfer may have damaged it
            files.download(name, temporary, OPENING_SECONDS)
            if sha256(temporary) == digest:
                return
        raise UserError(
            f"data.path={files.url}/{name}: its content is not what was written. Copy the store there again"
        )


def _check_sizes(files: RemoteFiles, names: list[str], sizes: list[int]) -> None:
    """Check that the shards are there and complete.

    Raises:
        UserError: one is too short or too long. RemoteDataError: one cannot be read.
    """
    there = files.sizes(names, OPENING_SECONDS)
    for name, size, expected in zip(names, there, sizes, strict=True):
        if size not in (None, expected):
            raise UserError(
                f"data.path={files.url}/{name}: has {size:,} bytes, and {expected:,} were written. Copy the store "
                f"there again"
            )
