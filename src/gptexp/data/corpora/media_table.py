"""The user's own images or recordings: files, and a table of their names and texts in any layout of records.py.

The table has a column for the file (`image` or `audio`) and a column for each field of the task: `caption`, or `text`
and perhaps `voice`. data.fields names columns that are called otherwise. A column `split` says train, val, test or
unseen, for data in which equal texts belong to several splits. An image can be a clip, for example a GIF.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath
from typing import Any, ClassVar

from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.data.corpora.corpus import SPLIT_NAMES, Corpus, Example
from gptexp.data.corpora.fields import (
    MISSING,
    FieldReader,
    Record,
    check_field_names,
    find_value,
    text_of_scalar,
)
from gptexp.data.corpora.find_files import is_hidden, nearest_neighbour, require_file
from gptexp.data.corpora.records import (
    RECORD_EXTENSIONS,
    known_extension,
    read_records,
    select_files,
)
from gptexp.errors import UserError
from gptexp.files import cached_sha256
from gptexp.wording import shorten


class MediaTable(Corpus):
    """The rows of a table. A subclass sets `medium`, which is also the name of the column with the files."""

    groups_by_file: ClassVar[bool] = False  # True: the examples of one file stay in one split

    def __init__(
        self, config: schema.MediaTableConfig, fields: tuple[str, ...], cache: Path
    ) -> None:
        self.config, self.fields, self.cache = config, fields, cache
        check_field_names(config.fields, (self.medium, *fields, "split"))
        self.file = _find_table(Path(config.path))
        self.extension = known_extension(self.file)

    @abstractmethod
    def read(self, path: Path) -> NDArray:
        """Read the frames of an image or the samples of audio."""

    def describe(self) -> dict[str, Any]:
        digests, voices = [], set()
        for example, path in self._rows():
            digests.append(cached_sha256(path, self.cache) if path else "")
            voices.add(example.fields.get("voice", "").strip())
        if not digests:
            raise UserError(f"{self.file}: has no rows")
        return {
            "source": self.config.kind,
            "table": cached_sha256(self.file, self.cache),
            "files": len(digests),
            "sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
            "fields": dict(self.config.fields),
            "voices": sorted(voices - {""}),
        }

    def __iter__(self) -> Iterator[Example]:
        for example, path in self._rows():
            if path:
                example.media = partial(self.read, path)
                example.group = str(path) if self.groups_by_file else None
            yield example

    def _rows(self) -> Iterator[tuple[Example, Path | None]]:
        """Yield the example of each row, and its file; None: the row is left out."""
        defaults = {}
        if "voice" in self.fields and "voice" not in self.config.fields:
            defaults["voice"] = ""
        reader = FieldReader((self.medium, *self.fields), self.config.fields, self.config.template)
        for where, record in read_records(
            self.file, self.extension, self.config, reader.source_names
        ):
            example = reader.example(defaults | record, where, self._split(record, where))
            name = example.fields.pop(self.medium).strip()
            if not name and not example.left_out:
                example.left_out = f"the field '{reader.names[self.medium]}' is empty"
            yield example, None if example.left_out else self._path(name, where)
        reader.check_names()

    def _split(self, record: Record, where: str) -> str | None:
        value = find_value(record, self.config.fields.get("split", "split"))
        if value is MISSING:
            return None
        try:
            name = (text_of_scalar(value) or "").strip()
        except TypeError:  # no text
            name = shorten(value)
        if not name:
            return None
        if name.lower() not in SPLIT_NAMES:
            raise UserError(
                f"{where}: split '{name}' is not known. Allowed: {', '.join(SPLIT_NAMES)}"
            )
        return SPLIT_NAMES[name.lower()]

    def _path(self, name: str, where: str) -> Path:
        """Return the path of a row's file, which is relative to the table's folder, or absolute."""
        path = self.file.parent / name
        if not path.is_file() and "\\" in name:  # written on Windows
            path = self.file.parent / name.replace("\\", "/")
        if path.is_file():
            return path
        if "://" in name:
            raise UserError(
                f"{where}: {name} is an address on the network. Download it, and name the file"
            )
        raise UserError(f"{where}: there is no file {path}.{nearest_neighbour(path)}")


def _find_table(path: Path) -> Path:
    """Return the table itself, or the only table of a folder.

    Raises:
        UserError: there is none, or there are several.
    """
    if not path.is_dir():
        if known_extension(require_file(path)) in RECORD_EXTENSIONS:
            return path
        raise UserError(
            f"data.path={path}: give a table ({', '.join(RECORD_EXTENSIONS)}), or a folder that has one in it"
        )
    files = sorted(
        file for file in path.iterdir() if file.is_file() and not is_hidden(PurePath(file.name))
    )
    tables, _ = select_files(files, RECORD_EXTENSIONS)
    if len(tables) != 1:
        names = ", ".join(file.name for file in tables) or "none"
        advice = f". Name one, data.path={tables[0]} for example" if tables else ""
        raise UserError(
            f"data.path={path}: one table of files and texts is needed in it, there are: {names}{advice}"
        )
    return tables[0]
