"""The user's own pictures or recordings: files, and a table (CSV, JSONL, Parquet) of their names and texts.

A table says for each file what is to be learned with it: `image` and `caption`, or `audio`, `text` and perhaps `voice`.
Columns that are called otherwise are named with data.fields. A column `split` says train, val, test or unseen, for data
in which equal texts belong to several splits. A picture may be a clip, a GIF for instance.
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
from gptexp.data.corpora.files import RECORDS, extension
from gptexp.errors import UserError
from gptexp.files import cached_sha256


class Table(Corpus):
    media: ClassVar[str]  # the field that names a file

    def __init__(
        self, config: schema.MediaTableConfig, fields: tuple[str, ...], cache: Path
    ) -> None:
        self.config, self.fields, self.cache = config, fields, cache
        check_field_names(config.fields, (self.media, *fields, "split"))
        self.file = _table(Path(config.path))

    @abstractmethod
    def read(self, path: Path) -> NDArray:
        """A file's content, as media.py has it."""

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
            fields = select_fields(record, self.fields, self.config.fields, where)
            path = self._path(where, record)
            group = str(path) if self.media == "image" else None
            yield Example(
                fields, split and SPLIT_NAMES[split], media=partial(self.read, path), group=group
            )

    def _records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Where they stand, and the rows of the table; a voice that no column tells is none."""
        missing = (
            {"voice": ""} if "voice" in self.fields and "voice" not in self.config.fields else {}
        )
        for where, record in RECORDS[extension(self.file)](self.file, self.config.encoding):
            yield where, missing | record

    def _path(self, where: str, record: dict[str, Any]) -> Path:
        """Where a file is: beside the table, or anywhere by an absolute path."""
        path = (
            self.file.parent
            / select_fields(record, (self.media,), self.config.fields, where)[self.media]
        )
        if not path.is_file():
            raise UserError(f"{where}: there is no file {path}")
        return path


def _table(path: Path) -> Path:
    """The table itself, or the one in a folder.

    Raises:
        UserError: there is none, or there are several.
    """
    if path.is_file() and extension(path) in RECORDS:
        return path
    if not path.is_dir():
        raise UserError(
            f"data.path={path}: give a table ({', '.join(RECORDS)}), or a folder that has one in it"
        )
    found = sorted(file for file in path.iterdir() if extension(file) in RECORDS)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise UserError(
            f"data.path={path}: one table of files and texts is needed in it, there are: {names}"
        )
    return found[0]
