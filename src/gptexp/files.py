"""Is a file what was written? Hashes of files, JSON that carries its own, and files that appear whole."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cached_sha256(path: Path, cache: Path) -> str:
    """Computed once for each state of a file (its inode, size and time): large files are not read at every start."""
    state = path.stat()
    known = f"{path.resolve()} {state.st_ino} {state.st_size} {state.st_mtime_ns}"
    kept = (
        cache / "sha256" / hashlib.sha256(known.encode("utf8", "surrogateescape")).hexdigest()[:32]
    )
    try:
        return loads_checked(kept.read_text())["sha256"]
    except (OSError, ValueError):
        found = sha256(path)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as temporary:
            temporary.write_text(dumps_with_checksum({"file": str(path), "sha256": found}))
        return found


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A file to write, which then takes the place of `path` at once: whoever reads sees all of it or nothing."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    yield temporary
    temporary.replace(path)


def dumps_with_checksum(values: dict[str, Any]) -> str:
    """JSON with a hash over the rest of it."""
    return json.dumps({**values, "seal": _seal(values)}, indent=1)


def loads_checked(text: str) -> dict[str, Any]:
    """The values of a sealed JSON text.

    Raises:
        ValueError: it is not JSON, or not what was sealed.
    """
    values = json.loads(text)
    if not isinstance(values, dict) or values.pop("seal", None) != _seal(values):
        raise ValueError("its content is not what was written")
    return values


def _seal(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
