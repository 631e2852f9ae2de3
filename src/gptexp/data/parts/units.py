"""Units of work: pieces of the input of which each becomes one part of a token store.

A unit is some small files, one file, row groups of a Parquet file, a range of the bytes of JSON lines, or a shard or
some rows of a Hugging Face data set. The units and their numbers follow from the input alone.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gptexp.data.corpora import Corpus, Example
from gptexp.data.corpora.arrow_tables import count_row_groups, read_arrow
from gptexp.data.corpora.corpus import SPLIT_NAMES
from gptexp.data.corpora.files import Files
from gptexp.data.corpora.hub import Hub
from gptexp.data.corpora.json_records import LINE_EXTENSIONS, read_line_range
from gptexp.data.corpora.open_file import explain_damage, open_bytes
from gptexp.data.corpora.record_readers import RecordReader
from gptexp.data.corpora.text_lines import UTF8
from gptexp.errors import UserError

UNITS = 64  # of a small input, about; a larger one has units of the largest size
UNIT_BYTES = 1 << 22, 1 << 28  # smallest and largest size of a unit, as files lie on the disk
FIRST_EXAMPLES = 100  # of a unit, of which one has the fields of the task
MAX_BLANK_LINES = 100  # behind the first line of a file
UNIT_ROWS = 1 << 10, 1 << 16  # the same, of a data set


@dataclass(frozen=True)
class Piece:
    """A file or a split of a data set, or a part of one."""

    name: str  # path of the file, or name of the split
    size: int  # bytes of the file; 0: of a data set
    mtime_ns: int  # of the file; 0: of a data set
    start: int = 0  # first byte, row group, row or shard
    stop: int | None = None  # None: all of it


@dataclass(frozen=True)
class Unit:
    split: str  # that its source states, or "train"
    pieces: tuple[Piece, ...]


def plan_units(corpus: Corpus) -> list[Unit]:
    """Return the units of a corpus, in the order of its examples.

    Raises:
        UserError: the corpus has no files and no data set.
    """
    if isinstance(corpus, Files):
        files = [file for files in corpus.parts.values() for file in files]
        size = _unit_size(sum(file.stat().st_size for file in files), UNIT_BYTES)
        return [unit for split in corpus.parts for unit in _units_of_files(corpus, split, size)]
    if isinstance(corpus, Hub):
        return [
            Unit(split, (piece,))
            for split in corpus.parts
            for piece in _pieces_of_dataset(split, corpus.parts[split])
        ]
    raise UserError(
        "gptexp tokenize reads data=files and data=hub; other data are small enough for gptexp run, which encodes them "
        "itself"
    )


def _unit_size(total: int, limits: tuple[int, int]) -> int:
    smallest, largest = limits
    return min(max(smallest, total // UNITS), largest)


def open_unit(corpus: Corpus, unit: Unit) -> Corpus:
    """Return the part of a corpus that a unit is.

    Raises:
        UserError: a file was changed since the units were planned.
    """
    if isinstance(corpus, Files):
        return FilesOfUnit(corpus, unit)
    assert isinstance(corpus, Hub)
    return _open_rows(corpus, unit)


def fixed_splits(corpus: Corpus) -> set[str]:
    """Return the splits that the source of a corpus states itself."""
    assert isinstance(corpus, Files | Hub)
    return set() if corpus.only_train else {SPLIT_NAMES[name] for name in corpus.parts}


def describe_input(corpus: Corpus, units: list[Unit]) -> dict[str, Any]:
    """Return the names, sizes and versions of the input as JSON values, without reading it."""
    if isinstance(corpus, Hub):
        return corpus.describe()
    assert isinstance(corpus, Files)
    parts: dict[str, list[list[Any]]] = {}
    for unit in units:
        pieces = ([Path(piece.name).name, piece.size, piece.start] for piece in unit.pieces)
        parts.setdefault(unit.split, []).extend(pieces)
    return {"source": "files", "parts": parts, "fields": dict(corpus.config.fields)}


def find_names(corpus: Corpus, units: list[Unit]) -> bool:
    """Return whether a record near the beginning of a unit has all fields of the task.

    Then a unit without such a record is left out, as a file of a folder is.
    """
    for unit in units[:UNITS]:
        with suppress(
            UserError
        ):  # no record of this one has them, or it is damaged, which shows when it is read
            for example in islice(open_unit(corpus, unit), FIRST_EXAMPLES):
                if not example.left_out:
                    return True
    return False


class FilesOfUnit(Files):
    """The examples of the files of one unit."""

    def __init__(self, corpus: Files, unit: Unit) -> None:
        vars(self).update(vars(corpus))
        self.split = unit.split
        self.pieces = {Path(piece.name): piece for piece in unit.pieces}
        self.parts, self.unread = {unit.split: list(self.pieces)}, {}
        self._check_files()

    def _check_files(self) -> None:
        """Check that the files are those that the units were planned with."""
        for path, piece in self.pieces.items():
            try:
                now = path.stat()
            except OSError as error:
                raise UserError(
                    f"{path}: was there when the parts were planned, and cannot be read now ({error.strerror})"
                ) from None
            if (now.st_size, now.st_mtime_ns) != (piece.size, piece.mtime_ns):
                raise UserError(
                    f"{path}: was changed since the parts were planned. Begin again with another --to"
                )

    def __iter__(self) -> Iterator[Example]:
        for example in self._read(self.split):
            example.split = None if self.only_train else self.split
            yield example
        self._check_files()

    def _examples(
        self, file: Path, extension: str, reader: RecordReader, is_only_file: bool
    ) -> Iterator[Example]:
        piece = self.pieces[file]
        if piece.stop is None:
            yield from super()._examples(file, extension, reader, is_only_file=False)
            return
        if extension == ".parquet":
            records = read_arrow(file, extension, range(piece.start, piece.stop))
        else:
            records = read_line_range(file, piece.start, piece.stop, reader.source_names)
        for where, record in records:
            yield reader.example(record, where)


def _units_of_files(corpus: Files, split: str, unit_size: int) -> Iterator[Unit]:
    """Yield pieces of large files, and small files together, of about `unit_size` bytes."""
    pieces: list[Piece] = []
    total = 0.0
    for file in corpus.parts[split]:
        file_pieces = _pieces_of_file(file, unit_size, corpus.config.encoding)
        for piece in file_pieces:
            size = piece.size / len(file_pieces)
            if pieces and total + size > unit_size:
                yield Unit(split, tuple(pieces))
                pieces, total = [], 0.0
            pieces.append(piece)
            total += size
    if pieces:
        yield Unit(split, tuple(pieces))


def _pieces_of_file(file: Path, unit_size: int, encoding: str) -> list[Piece]:
    """Return the pieces of a file: several of a large Parquet file or of JSON lines that are not compressed."""
    size, mtime_ns = file.stat().st_size, file.stat().st_mtime_ns
    count = -(-size // unit_size)
    items = 0
    with explain_damage(file), open_bytes(file):
        pass  # it can be read, and Git LFS has fetched it
    if count > 1 and file.suffix.lower() == ".parquet":
        items = count_row_groups(file)
    elif count > 1 and file.suffix.lower() in LINE_EXTENSIONS and encoding.lower() in UTF8:
        items = size if _has_lines_of_objects(file) else 0
    bounds = np.unique(np.linspace(0, items, count + 1, dtype=np.int64)).tolist()
    if len(bounds) < 3:
        return [Piece(str(file), size, mtime_ns)]
    return [Piece(str(file), size, mtime_ns, *pair) for pair in pairwise(bounds)]


def _has_lines_of_objects(file: Path) -> bool:
    """Return whether a file has several lines, and the first one is a JSON object; one alone can be a table."""
    with file.open("rb") as stream:
        try:
            is_object = isinstance(json.loads(stream.readline()), dict)
        except (ValueError, RecursionError):
            return False
        return is_object and any(line.strip() for line in islice(stream, MAX_BLANK_LINES))


def _pieces_of_dataset(split: str, rows: Any) -> list[Piece]:
    """Return the shards of a data set that is streamed, or ranges of the rows of another."""
    if hasattr(rows, "num_rows"):
        size = _unit_size(rows.num_rows, UNIT_ROWS)
        starts = range(0, rows.num_rows, size)
        return [Piece(split, 0, 0, n, min(n + size, rows.num_rows)) for n in starts]
    return [Piece(split, 0, 0, number, number + 1) for number in range(rows.num_shards)]


def _open_rows(corpus: Hub, unit: Unit) -> Hub:
    [piece] = unit.pieces
    rows = corpus.parts[piece.name]
    assert piece.stop is not None
    if hasattr(rows, "num_rows"):
        rows_of_unit = rows.select(range(piece.start, piece.stop))
    else:
        rows_of_unit = rows.shard(num_shards=rows.num_shards, index=piece.start)
    part = copy(corpus)
    part.parts = {piece.name: rows_of_unit}
    return part
