"""Files and folders that appear complete or not at all, and checksums that tell whether a file has changed since."""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

LFS_POINTER = b"version https://git-lfs."
STDOUT = 1  # its file descriptor


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write; flush it to the disk and rename it to `path` when the block ends.

    Readers see the old file or the new one, never a part. If the block raises, `path` stays as it is. A symbolic link
    stays, and the file behind it is replaced. A pipe, a device and stdout are written to, and never replaced.
    """
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / "content"
            yield temporary
            with temporary.open("rb") as source, _open_stream(path) as stream:
                shutil.copyfileobj(source, stream)
        return
    path, temporary = path.resolve(), temporary_file(path)
    try:
        yield temporary
        fsync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_file(path: Path) -> Path:
    """Return the temporary file that `atomic_write` renames to `path`; it lies beside the file behind a link."""
    target = path.resolve()
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def is_stream(path: Path) -> bool:
    """Return whether a path is to be written in place: it is there and no regular file, or it is stdout."""
    return (path.exists() and not path.is_file()) or is_stdout(path)


def is_stdout(path: Path) -> bool:
    """Return whether a path, such as /dev/stdout, is the file, pipe or terminal that stdout goes to."""
    with suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(STDOUT))
    return False


def _open_stream(path: Path) -> BinaryIO:
    """Open a stream to write; stdout goes on where it is, since opening its file anew begins at the file's start."""
    if not is_stdout(path):
        return path.open("wb")
    sys.stdout.flush()
    return os.fdopen(os.dup(STDOUT), "wb")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf8")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; make it `path` when the block ends, in place of what was there.

    If the block raises, `path` stays as it is. Temporary folders of earlier writers, which were killed, are removed,
    so writers that can compete for one `path` must hold a lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    leftover_name = re.compile(rf"\.{re.escape(path.name)}\.\d+\.tmp")
    for sibling in path.parent.iterdir():
        if leftover_name.fullmatch(sibling.name):
            shutil.rmtree(sibling)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        commit_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def commit_folder(temporary: Path, path: Path) -> None:
    """Flush all files of `temporary` to the disk, then rename it to `path`, in place of what was there."""
    for entry in (*temporary.rglob("*"), temporary):
        fsync(entry)
    shutil.rmtree(path, ignore_errors=True)
    temporary.rename(path)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Force the content of a file, or the entries of a folder, out to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def short_hash(text: str) -> str:
    """Return the first 16 hexadecimal digits of a text's sha256, which name a folder or identify a content."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cached_sha256(path: Path, cache: Path) -> str:
    """Return the sha256 of a file, computed once for each inode, size and modification time that it has had."""
    stat = path.stat()
    key = f"{path.resolve()} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"
    name = hashlib.sha256(key.encode("utf8", "surrogateescape")).hexdigest()[:32]
    entry = cache / "sha256" / name
    try:
        return loads_checked(entry.read_text("utf8"))["sha256"]
    except (OSError, ValueError):
        digest = sha256(path)
        with suppress(OSError):  # a cache that cannot be written
            entry.parent.mkdir(parents=True, exist_ok=True)
            write_text(entry, dumps_with_checksum({"file": str(path), "sha256": digest}))
        return digest


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ValueError: the file holds no JSON, or another value.
    """
    values = json.loads(path.read_text("utf8"))
    if not isinstance(values, dict):
        raise ValueError(f"its value is of type {type(values).__name__}")
    return values


def is_lfs_pointer(path: Path) -> bool:
    """Return whether Git LFS left a pointer in place of a file."""
    with path.open("rb") as stream:
        return stream.read(len(LFS_POINTER)) == LFS_POINTER


def dumps_with_checksum(values: dict[str, Any]) -> str:
    """Serialize `values` as JSON with a checksum over them."""
    return json.dumps({**values, "checksum": _checksum(values)}, indent=1)


def loads_checked(text: str) -> dict[str, Any]:
    """Parse what `dumps_with_checksum` wrote.

    Raises:
        ValueError: the text is not JSON, or its checksum does not match.
    """
    values = json.loads(text)
    if not isinstance(values, dict) or values.pop("checksum", None) != _checksum(values):
        raise ValueError("its content is not what was written")
    return values


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
