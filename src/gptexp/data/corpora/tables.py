"""The user's own pictures or recordings: files, and a table (CSV, JSONL, Parquet) of their names and texts.

A table says for each file what is to be learned with it: `image` and `caption`, or `audio`, `text` and perhaps `voice`.
Columns that are called otherwise are named with data.fields. A column `split` says train, val, test or unseen, where
equal texts must not stay on one side. A picture may be a clip, a GIF for instance.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptexp.config import schema
from gptexp.config.errors import UserError
from gptexp.data.corpora.base import SPLIT_NAMES, Corpus, Example, pick
from gptexp.data.corpora.files import RECORDS, extension
from gptexp.data.integrity import remembered_sha256
from gptexp.data.media import Picture, Sound

KINDS: dict[type, tuple[str, tuple[str, ...], Any]] = {
    schema.Images: ("image", ("caption",), lambda path: Picture.of(path).frames),
    schema.Recordings: ("audio", ("voice", "text"), lambda path: Sound.of(path).samples),
}


class Table(Corpus):
    def __init__(self, config: schema.Table, fields: tuple[str, ...], cache: Path) -> None:
        self.config, self.fields, self.cache = config, fields, cache
        self.media, has, self.read = KINDS[type(config)]
        if fields != has:
            raise UserError(f"data={config.kind} gives {', '.join(has)}; this task needs {', '.join(fields)}")
        self.file = _table(Path(config.path))

    def describe(self) -> dict[str, Any]:
        hashes = {name: remembered_sha256(path, self.cache) for name, path in self._files()}
        return {"source": self.config.kind, "table": remembered_sha256(self.file, self.cache), "media": hashes,
                "fields": dict(self.config.fields), "voices": self._voices()}  # fmt: skip

    def __iter__(self) -> Iterator[Example]:
        for where, record in self._records():
            fields = pick(record, self.fields, self.config.fields, where)
            split = record.get("split") or None
            if split not in (None, *SPLIT_NAMES):
                raise UserError(f"{where}: split '{split}' is not known. Allowed: {', '.join(SPLIT_NAMES)}")
            media = self.read(self._path(where, record)[1])
            yield Example(fields, split and SPLIT_NAMES[split], media=media)

    def _records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for where, record in RECORDS[extension(self.file)](self.file, "utf-8"):
            voice = self.config.fields.get("voice", "voice")
            yield where, record if voice in record or "voice" in self.config.fields else {**record, "voice": ""}

    def _files(self) -> Iterator[tuple[str, Path]]:
        for where, record in self._records():
            yield self._path(where, record)

    def _path(self, where: str, record: dict[str, Any]) -> tuple[str, Path]:
        """What the table calls a file, and where it is: beside the table, or anywhere by an absolute path."""
        name = pick(record, (self.media,), self.config.fields, where)[self.media]
        path = self.file.parent / name
        if not path.is_file():
            raise UserError(f"{where}: there is no file {path}")
        return name, path

    def _voices(self) -> list[str]:
        name = self.config.fields.get("voice", "voice")
        return sorted({str(record[name]) for _, record in self._records() if record.get(name)})


def _table(path: Path) -> Path:
    """The table itself, or the one in a folder.

    Raises:
        UserError: there is none, or there are several.
    """
    if path.is_file() and extension(path) in RECORDS:
        return path
    if not path.is_dir():
        raise UserError(f"data.path={path}: give a table ({', '.join(RECORDS)}), or a folder that has one in it")
    found = sorted(file for file in path.iterdir() if extension(file) in RECORDS)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise UserError(f"data.path={path}: one table of files and texts is needed in it, there are: {names}")
    return found[0]
