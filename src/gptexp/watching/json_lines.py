"""Read a growing file of JSON lines: each call returns the rows that are new."""

import json
from pathlib import Path
from typing import Any

MAX_FIRST_READ = 1 << 22  # bytes; of a longer file, the end


class JsonLines:
    """Remembers how far a file has been read. A last line without its end waits for the next call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inode, self.offset, self.size = 0, 0, -1
        self.modified = 0.0  # when the file was last written

    def read_new(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the new rows, and whether they start anew because another file has taken the place of the old."""
        try:
            stat = self.path.stat()
        except OSError:
            is_new, self.inode, self.offset, self.size = self.inode != 0, 0, 0, -1
            return [], is_new
        is_new = stat.st_ino != self.inode or stat.st_size < self.offset
        if not is_new and stat.st_size == self.size:
            return [], False
        if is_new:
            self.inode, self.offset = stat.st_ino, max(0, stat.st_size - MAX_FIRST_READ)
        self.size, self.modified = stat.st_size, stat.st_mtime
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                block = file.read()
        except OSError:
            return [], is_new
        complete = block[: block.rfind(b"\n") + 1]
        self.offset += len(complete)
        return [row for line in complete.split(b"\n") if (row := _parse(line))], is_new


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:  # an empty line, or the rest of one at the place where reading begins
        return None
    return row if isinstance(row, dict) else None
