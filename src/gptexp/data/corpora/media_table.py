"""The user's own images or recordings: files, and a table (CSV, JSONL, Parquet) of their names and texts.

The table has a column for the file (`image` or `audio`) and a column for each field of the task: `caption`, or `text`
and perhaps `voice`. data.fields names columns that are called otherwise. A column `split` says train, val, test or
unseen, for data in which equal texts belong to several splits. An image can be a clip, for example a GIF.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.data.corpora.corpus import (
    SPLIT_NAMES,
    Corpus,
    Example,
    check_field_names,
    select_fields,
)
from gptexp.data.corpora.files import RECORD_READERS, extension
from gptexp.errors import UserError
from gptexp.files import cached_sha256


class MediaTable(Corpus):
    """The rows of a table. A subclass sets `medium`, which is also the name of the column with the files."""

    groups_by_file: ClassVar[bool] = False  # True: the examples of one file stay in one split

    def __init__(
        self, config: schema.MediaTableConfig, fields: tuple[str, ...], cache: Path
    ) -> None:
        self.config, self.fields, self.cache = config, fields, cache
        check_field_names(config.fields, (self.medium, *fields, "split"))
        self.file = _find_table(Path(config.path))

    @abstractmethod
    def read(self, path: Path) -> NDArray:
        """Read the frames of an image or the samples of audio."""

    def describe(self) -> dict[str, Any]:
        records = list(self._records())
        if not records:
            raise UserError(f"{self.file}: has no rows")
        files = "".join(cached_sha256(self._path(*record), self.cache) for record in records)
        voices = {
            str(record.get(self.config.fields.get("voice", "voice")) or "").strip()
            for _, record in records
        }
        return {
            "source": self.config.kind,
            "table": cached_sha256(self.file, self.cache),
            "files": len(records),
            "sha256": hashlib.sha256(files.encode()).hexdigest(),
            "fields": dict(self.config.fields),
            "voices": sorted(voices - {""}),
        }

    def __iter__(self) -> Iterator[Example]:
        for where, record in self._records():
            split = record.get(self.config.fields.get("split", "split")) or None
            if split not in (None, *SPLIT_NAMES):
                raise UserError(
                    f"{where}: split '{split}' is not known. Allowed: {', '.join(SPLIT_NAMES)}"
                )
            path = self._path(where, record)
            yield Example(
                select_fields(record, self.fields, self.config.fields, where),
                SPLIT_NAMES[split] if split else None,
                media=partial(self.read, path),
                group=str(path) if self.groups_by_file else None,
            )

    def _records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the place and the values of each row. Without a column `voice`, the voice of every row is ""."""
        defaults = {}
        if "voice" in self.fields and "voice" not in self.config.fields:
            defaults["voice"] = ""
        for where, record in RECORD_READERS[extension(self.file)](self.file, self.config.encoding):
            yield where, defaults | record

    def _path(self, where: str, record: dict[str, Any]) -> Path:
        """Return the path of a row's file, which is relative to the table's folder, or absolute."""
        name = select_fields(record, (self.medium,), self.config.fields, where)
        path = self.file.parent / name[self.medium]
        if not path.is_file():
            raise UserError(f"{where}: there is no file {path}")
        return path


def _find_table(path: Path) -> Path:
    """Return the table itself, or the only table of a folder.

    Raises:
        UserError: there is none, or there are several.
    """
    if path.is_file() and extension(path) in RECORD_READERS:
        return path
    if not path.is_dir():
        raise UserError(
            f"data.path={path}: give a table ({', '.join(RECORD_READERS)}), or a folder that has one in it"
        )
    tables = sorted(file for file in path.iterdir() if extension(file) in RECORD_READERS)
    if len(tables) != 1:
        names = ", ".join(file.name for file in tables) or "none"
        raise UserError(
            f"data.path={path}: one table of files and texts is needed in it, there are: {names}"
        )
    return tables[0]
