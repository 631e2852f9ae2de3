"""Open files as bytes, and decompress gzip, bzip2, xz, Zstandard, LZ4 and zip."""

import bz2
import gzip
import lzma
import re
import shlex
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from gptexp.data.corpora.find_files import is_hidden
from gptexp.errors import UserError
from gptexp.files import is_lfs_pointer

COMPRESSIONS = {
    ".gz": "gzip",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zst": "Zstandard",
    ".lz4": "LZ4",
    ".zip": "zip",
}
MAGIC = {
    re.compile(rb"\x1f\x8b"): ".gz",
    re.compile(rb"BZh[1-9]1AY&SY"): ".bz2",
    re.compile(rb"\xfd7zXZ\x00"): ".xz",
    re.compile(rb"\x28\xb5\x2f\xfd"): ".zst",
    re.compile(rb"\x04\x22\x4d\x18"): ".lz4",
    re.compile(rb"PK\x03\x04"): ".zip",
}


def extension_by_name(file: Path) -> str:
    """Return the extension of the content in lower case: ".csv" for a.csv, a.CSV.gz and a zip file with one table."""
    suffix = file.suffix.lower()
    if suffix not in COMPRESSIONS:
        return suffix
    inner = ""
    if suffix == ".zip" and file.is_file():
        with explain_damage(file), zipfile.ZipFile(file) as archive:
            inner = PurePosixPath(_member(file, archive)).suffix.lower()
    return inner or Path(file.stem).suffix.lower() or suffix


def is_compressed(file: Path) -> bool:
    return file.suffix.lower() in COMPRESSIONS


def open_bytes(file: Path) -> IO[bytes]:
    """Open a file for reading, decompressed if its name or its first bytes say that it is compressed.

    Raises:
        UserError: it is a pointer to a file that is not there, or a zip file with several files.
    """
    if is_lfs_pointer(file):
        raise UserError(f"{file}: a pointer of Git LFS instead of the file. Type: git lfs pull")
    suffix = file.suffix.lower()
    if suffix not in COMPRESSIONS:
        with file.open("rb") as stream:
            head = stream.read(16)
        suffix = next((kind for magic, kind in MAGIC.items() if magic.match(head)), "")
    match suffix:
        case ".gz":
            return cast(IO[bytes], gzip.open(file))
        case ".bz2":
            return bz2.open(file)
        case ".xz":
            return cast(IO[bytes], lzma.open(file))
        case ".zst" | ".lz4":
            import pyarrow

            codec = "zstd" if suffix == ".zst" else "lz4"
            return cast(IO[bytes], pyarrow.CompressedInputStream(str(file), codec))
        case ".zip":
            archive = zipfile.ZipFile(file)
            return archive.open(_member(file, archive))
    return file.open("rb")


@contextmanager
def explain_damage(file: Path) -> Iterator[None]:
    """Raise a UserError that names the file where it cannot be opened or decompressed to its end."""
    try:
        yield
    except PermissionError:
        raise UserError(f"{file}: no permission to read it") from None
    except (
        EOFError,
        OSError,  # of gzip, bzip2, Zstandard and LZ4
        lzma.LZMAError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,  # a zip file with another compression
        RuntimeError,  # a zip file with a password
    ) as error:
        kind = COMPRESSIONS.get(file.suffix.lower())
        problem = f"not a complete {kind} file" if kind else "cannot be read"
        raise UserError(f"{file}: {problem} ({error})") from None


def _member(file: Path, archive: zipfile.ZipFile) -> str:
    """Return the name of the only file in an archive."""
    names = [
        item.filename
        for item in archive.infolist()
        if not item.is_dir() and not is_hidden(PurePosixPath(item.filename))
    ]
    if len(names) != 1:
        listing = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise UserError(
            f"{file}: one file is needed in a zip file, this one has {len(names)}"
            f"{f' ({listing})' if names else ''}. Unpack it with "
            f"unzip -d {shlex.quote(str(file.with_suffix('')))} {shlex.quote(str(file))}, and give "
            f"that folder or a file of it"
        )
    return names[0]
