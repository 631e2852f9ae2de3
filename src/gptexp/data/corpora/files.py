"""The user's own files: texts, and records in JSON, CSV, Parquet or Arrow; folders; parallel line files.

A text file is cut at line ends into pieces, so that neither memory nor the split depends on its length.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from gptexp.config import schema
from gptexp.data.corpora.corpus import SPLIT_NAMES, Corpus, Example
from gptexp.data.corpora.fields import FieldReader
from gptexp.data.corpora.find_files import require_file
from gptexp.data.corpora.open_file import extension_by_name
from gptexp.data.corpora.record_readers import RecordReader, check_names_of_fields, make_reader
from gptexp.data.corpora.records import (
    RECORD_EXTENSIONS,
    TEXT_EXTENSIONS,
    extension_by_content,
    find_readable_files,
    known_extension,
    read_records,
)
from gptexp.data.corpora.text_lines import read_lines
from gptexp.errors import UserError
from gptexp.files import cached_sha256

MAX_PIECE_CHARACTERS = 65536
MIN_PIECE_CHARACTERS = 256
PIECES_PER_FILE = 2000  # of a small text file, about
PIECES_OF_SHORT_TEXT = 8  # of one that has fewer pieces than there are splits
MAX_LINE_CHARACTERS = 1 << 24  # of a text file that are read at once
TEXT = ("text",)
EMPTY = "the file is empty"
SPLIT_KEYS = {"train": "data.path", "val": "data.val_path", "test": "data.test_path"}


class Files(Corpus):
    has_known_names = False  # some record has all fields: those of one file need not have them

    def __init__(self, config: schema.FilesConfig, fields: tuple[str, ...], cache: Path) -> None:
        self.config, self.fields, self.cache = config, fields, cache
        check_names_of_fields(config, fields)
        paths = {"train": config.path, "val": config.val_path, "test": config.test_path}
        self.parallel = {split for split, path in paths.items() if isinstance(path, list)}
        self.unread: dict[str, list[Path]] = {}  # other files in the folder of a split
        self.parts = {split: self._files(path, split) for split, path in paths.items() if path}
        self.only_train = len(self.parts) == 1
        self.has_open_splits = self.only_train and config.val_fraction + config.test_fraction > 0

    def describe(self) -> dict[str, Any]:
        hashes = {
            split: [[path.name, cached_sha256(path, self.cache)] for path in files]
            for split, files in self.parts.items()
        }
        return {
            "source": "files",
            "files": hashes,
            "fields": dict(self.config.fields),
            "encoding": self.config.encoding,
            "separator": self.config.separator,
            "quoting": self.config.quoting,
        }

    def __iter__(self) -> Iterator[Example]:
        for split, files in self.parts.items():
            is_empty, is_blank = True, None
            is_parallel = split in self.parallel
            for example in self._parallel(*files) if is_parallel else self._read(split):
                is_empty &= example.left_out == EMPTY
                if not example.left_out and is_blank is not False:
                    is_blank = all(text.isspace() for text in example.fields.values())
                example.split = None if self.only_train else split
                yield example
            if is_empty:
                raise UserError(
                    f"{', '.join(map(str, files))}: nothing to read, the file is empty or has no rows"
                )
            if is_blank:
                raise UserError(f"{', '.join(map(str, files))}: nothing to read, only white space")

    def _files(self, path: Any, split: str) -> list[Path]:
        if split in self.parallel:
            return self._parallel_files(path)
        files, self.unread[split] = find_readable_files(path, SPLIT_KEYS[split])
        if Path(path).is_dir():
            _report_named_splits(files, SPLIT_KEYS[split])
        return files

    def _parallel_files(self, paths: list[str]) -> list[Path]:
        files = [require_file(Path(path)) for path in paths]
        if self.fields != ("source", "target"):
            raise UserError(
                f"data.path={paths}: two parallel files give source and target; this task needs "
                f"{', '.join(self.fields)}"
            )
        for file in files:
            if extension_by_name(file) in RECORD_EXTENSIONS:
                raise UserError(
                    f"{file}: two parallel files are texts with one example a line. Records are one file, a folder or "
                    f"a pattern. For these: mkdir both && cp {shlex.join(map(str, files))} both/ , then data.path=both"
                )
        return files

    def _read(self, split: str) -> Iterator[Example]:
        files = self.parts[split]
        extensions = [self._extension(file) for file in files]
        if self.fields != TEXT and all(extension in TEXT_EXTENSIONS for extension in extensions):
            raise UserError(
                f"{files[0]}: a text file gives text; this task needs {' and '.join(self.fields)}: use JSON lines, "
                f"CSV or Parquet, or data.path=[source.txt,target.txt]"
            )
        reader = make_reader(self.fields, self.config)
        if self.has_known_names and isinstance(reader, FieldReader):
            reader.unseen.clear()
        for file, extension in zip(files, extensions, strict=True):
            is_empty = True
            for example in self._examples(file, extension, reader, len(files) == 1):
                is_empty = False
                yield example
            if is_empty:
                yield self._left_out(file, EMPTY)
        reader.check_names()
        for file in self.unread.get(split, ()):
            others = f"'{file.suffix}' files" if file.suffix else "files without an extension"
            yield self._left_out(file, f"{others} in the folder are not read")

    def _extension(self, file: Path) -> str:
        extension = known_extension(file)
        if extension in TEXT_EXTENSIONS and self.fields != TEXT:
            return extension_by_content(file) or extension
        return extension

    def _examples(
        self, file: Path, extension: str, reader: RecordReader, is_only_file: bool
    ) -> Iterator[Example]:
        if extension not in TEXT_EXTENSIONS:
            for where, record in read_records(file, extension, self.config, reader.source_names):
                yield reader.example(record, where)
        elif self.fields == TEXT:
            yield from self._pieces(file, is_only_file)
        else:
            yield self._left_out(file, f"a text file has no {' and '.join(self.fields)}")

    def _left_out(self, file: Path, reason: str) -> Example:
        return Example(dict.fromkeys(self.fields, ""), left_out=reason, where=str(file))

    def _pieces(self, file: Path, is_only_file: bool) -> Iterator[Example]:
        """Yield a text in pieces, at least one for each split where they are all cut from this file."""
        pieces = self._pieces_at_line_ends(file)
        first = list(islice(pieces, len(SPLIT_KEYS)))
        if is_only_file and self.has_open_splits and 0 < len(first) < len(SPLIT_KEYS):
            text, number = "".join(piece.fields["text"] for piece in first), 1
            *parts, last = cut_at_spaces(text, PIECES_OF_SHORT_TEXT)
            for part in parts:
                yield Example({"text": part}, ends_document=False, where=f"{file}, line {number}")
                number += part.count("\n")
            yield Example({"text": last}, where=f"{file}, line {number}")
        else:
            yield from chain(first, pieces)

    def _pieces_at_line_ends(self, file: Path) -> Iterator[Example]:
        size = min(
            MAX_PIECE_CHARACTERS, max(MIN_PIECE_CHARACTERS, file.stat().st_size // PIECES_PER_FILE)
        )
        piece: list[str] = []
        length, number, first = 0, 1, 1  # number of the line, and of the first line of the piece
        for line in read_lines(file, self.config.encoding, MAX_LINE_CHARACTERS):
            for start in range(0, len(line), MAX_PIECE_CHARACTERS):  # a line can be very long
                if length >= size:
                    where = f"{file}, line {first}"
                    yield Example({"text": "".join(piece)}, ends_document=False, where=where)
                    piece, length, first = [], 0, number
                piece.append(line[start : start + MAX_PIECE_CHARACTERS])
                length += len(piece[-1])
            number += line.endswith("\n")
        if piece:
            yield Example({"text": "".join(piece)}, where=f"{file}, line {first}")

    def _parallel(self, source: Path, target: Path) -> Iterator[Example]:
        encoding = self.config.encoding
        lines = read_lines(source, encoding), read_lines(target, encoding)
        number = 0
        for left in lines[0]:
            number += 1
            right = next(lines[1], None)
            if right is None:
                raise UserError(
                    f"{target}: ends after line {number - 1}, {source} has more lines: parallel files need equally many"
                )
            yield Example(
                {"source": left.strip(), "target": right.strip()}, where=f"{source}, line {number}"
            )
        if next(lines[1], None) is not None:
            raise UserError(
                f"{source}: ends after line {number}, {target} has more lines: parallel files need equally many"
            )


def _report_named_splits(files: list[Path], key: str) -> None:
    """Say on stderr that files of a folder whose names are those of splits are divided anew."""
    splits = {file.name.split(".")[0].lower(): file for file in files}
    named = {SPLIT_NAMES[name]: file for name, file in splits.items() if name in SPLIT_NAMES}
    if len(named) > 1 and "train" in named:
        paths = " ".join(
            f"{SPLIT_KEYS[split]}={file}" for split, file in named.items() if split in SPLIT_KEYS
        )
        print(
            f"{key}: {' and '.join(file.name for file in named.values())} are read as one and divided anew. To keep "
            f"them apart: {paths}",
            file=sys.stderr,
        )


def cut_at_spaces(text: str, count: int) -> list[str]:
    """Cut a text into about `count` parts, which end with a space where there is one."""
    size = max(1, len(text) // count)
    return re.findall(rf".{{1,{size}}}\S{{0,{size}}}\s*", text, re.S)
