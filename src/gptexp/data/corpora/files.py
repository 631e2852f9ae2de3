"""The user's own files: text, Markdown, JSONL, CSV, also gzipped, and Parquet; folders; parallel line files.

A text file is cut at line ends into pieces, so that neither memory nor the split depends on its length.
"""

import codecs
import csv
import glob
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from gptexp.config import schema
from gptexp.data.corpora.corpus import Corpus, Example, check_field_names, select_fields
from gptexp.errors import UserError, nearest
from gptexp.files import cached_sha256

MAX_PIECE_CHARACTERS = 65536
PIECES_PER_FILE = 2000  # of a small text file, about
MAX_LINE_BYTES = 1 << 24  # of a text file that are read at once


class Files(Corpus):
    def __init__(self, config: schema.FilesConfig, fields: tuple[str, ...], cache: Path) -> None:
        self.config, self.fields, self.cache = config, fields, cache
        check_field_names(config.fields, fields)
        paths = {"train": config.path, "val": config.val_path, "test": config.test_path}
        self.parallel = {split for split, path in paths.items() if isinstance(path, list)}
        self.parts = {split: self._files(path) for split, path in paths.items() if path}
        self.only_train = len(self.parts) == 1

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
        }

    def __iter__(self) -> Iterator[Example]:
        for split, files in self.parts.items():
            is_empty = True
            for example in self._parallel(*files) if split in self.parallel else self._read(files):
                is_empty = False
                example.split = None if self.only_train else split
                yield example
            if is_empty:
                raise UserError(f"{', '.join(map(str, files))}: nothing to read, the file is empty")

    def _files(self, path: Any) -> list[Path]:
        if isinstance(path, list):
            if self.fields != ("source", "target"):
                raise UserError(
                    f"data.path={path}: two parallel files give source and target; "
                    f"this task needs {', '.join(self.fields)}"
                )
            return [_require_file(Path(one)) for one in path]
        if Path(path).is_dir():
            files = sorted(
                file
                for file in Path(path).rglob("*")
                if file.is_file() and extension(file) in KNOWN
            )
            if not files:
                raise UserError(
                    f"data.path={path}: no file in this folder ends in {', '.join(KNOWN)}"
                )
            return files
        if glob.has_magic(path) and not Path(path).is_file():
            files = [
                Path(name)
                for name in sorted(glob.glob(path, recursive=True))
                if os.path.isfile(name)
            ]
            if not files:
                raise UserError(f"data.path={path}: no file matches this pattern")
            return files
        return [_require_file(Path(path))]

    def _read(self, files: list[Path]) -> Iterator[Example]:
        for file in files:
            ending = extension(file)
            if ending not in KNOWN:
                raise UserError(
                    f"{file}: '{ending}' is not a known extension.{nearest(ending, KNOWN)} "
                    f"Known: {', '.join(KNOWN)}, all but the last also with .gz"
                )
            if ending in TEXT:
                if self.fields != ("text",):
                    raise UserError(
                        f"{file}: a text file gives text; this task needs {' and '.join(self.fields)}: use "
                        f"jsonl, csv or parquet, or data.path=[source.txt,target.txt]"
                    )
                yield from self._pieces(file)
            else:
                for where, record in RECORD_READERS[ending](file, self.config.encoding):
                    yield Example(select_fields(record, self.fields, self.config.fields, where))

    def _pieces(self, file: Path) -> Iterator[Example]:
        size = min(MAX_PIECE_CHARACTERS, max(256, file.stat().st_size // PIECES_PER_FILE))
        piece: list[str] = []
        length = 0
        for line in _lines(file, self.config.encoding, MAX_LINE_BYTES):
            for start in range(0, len(line), MAX_PIECE_CHARACTERS):  # a line can be very long
                if length >= size:
                    yield Example({"text": "".join(piece)}, ends_document=False)
                    piece, length = [], 0
                piece.append(line[start : start + MAX_PIECE_CHARACTERS])
                length += len(piece[-1])
        if piece:
            yield Example({"text": "".join(piece)})

    def _parallel(self, source: Path, target: Path) -> Iterator[Example]:
        lines = _lines(source, self.config.encoding), _lines(target, self.config.encoding)
        number = 0
        for left in lines[0]:
            number += 1
            right = next(lines[1], None)
            if right is None:
                raise UserError(
                    f"{target}: ends after line {number - 1}, {source} has more lines: parallel files need equally many"
                )
            if left.strip() and right.strip():
                yield Example({"source": left.strip(), "target": right.strip()})
        if next(lines[1], None) is not None:
            raise UserError(
                f"{source}: ends after line {number}, {target} has more lines: parallel files need equally many"
            )


def _jsonl(file: Path, encoding: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_lines(file, encoding), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # also for 5,000 digits or nested brackets
            raise UserError(f"{file}, line {number}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise UserError(
                f"{file}, line {number}: a JSON object is needed, one a line, not {type(record).__name__}"
            )
        yield f"{file}, line {number}", record


def _csv(file: Path, encoding: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(_lines(file, encoding), strict=True, skipinitialspace=True)
    csv.field_size_limit(2**31 - 1)
    try:
        names = reader.fieldnames or []
        if repeated := [name for name in names if name and names.count(name) > 1]:
            raise UserError(f"{file}, line 1: names the column '{repeated[0]}' more than once")
        for record in reader:
            where = f"{file}, line {reader.line_num}"
            if None in record or None in record.values():
                raise UserError(
                    f"{where}: {len(names)} columns are named in the first line, this one has another number"
                )
            yield where, record
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: not CSV ({error})") from error


def _parquet(file: Path, _: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1024):
            for record in batch.to_pylist():
                number += 1
                yield f"{file}, row {number}", record
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file}: not a Parquet file ({error})") from error


Reader = Callable[[Path, str], Iterator[tuple[str, dict[str, Any]]]]
TEXT = (".txt", ".md")
RECORD_READERS: dict[str, Reader] = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
KNOWN = (*TEXT, *RECORD_READERS)


def _lines(file: Path, encoding: str, max_bytes: int = -1) -> Iterator[str]:
    """Yield lines with their ends; a line of more than `max_bytes` comes in parts, to bound the memory.

    Raises:
        UserError: the file is not text in this encoding; the message names the line.
    """
    number = 1
    try:
        name = codecs.lookup(
            "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
        ).name
        with _open(file) as stream:
            if name.startswith(("utf-16", "utf-32")):  # where a byte 10 can be part of a character
                with io.TextIOWrapper(stream, name, newline="\n") as lines:
                    for line in lines:
                        yield line
                        number += 1
                return
            decoder = codecs.getincrementaldecoder(name)()
            while chunk := stream.readline(max_bytes):
                if text := decoder.decode(chunk):
                    yield text
                number += chunk.endswith(b"\n")
            if text := decoder.decode(b"", final=True):
                yield text
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}, line {number}: not {encoding} text ({error.reason}). "
            f"Name its encoding with data.encoding=..., latin-1 or utf-16 for example"
        ) from error
    except (LookupError, UnicodeError) as error:
        raise UserError(
            f"data.encoding={encoding}: Python knows no such encoding, for example utf-8, latin-1"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{file}: not a complete gzip file ({error})") from error


def _open(file: Path) -> IO[bytes]:
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")  # type: ignore[return-value]


def extension(file: Path) -> str:
    """Return the extension in lower case, without a trailing .gz."""
    inner = Path(file.stem).suffix.lower()
    return inner if file.suffix == ".gz" and inner != ".parquet" else file.suffix.lower()


def _require_file(file: Path) -> Path:
    """Return a file that exists.

    Raises:
        UserError: it does not; the message names the nearest file in its folder.
    """
    if not file.is_file():
        neighbours = [str(other) for other in file.parent.glob("*")] if file.parent.is_dir() else []
        raise UserError(f"{file}: no such file or folder.{nearest(str(file), neighbours)}")
    return file
