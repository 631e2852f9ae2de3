"""Read records from files of any layout: JSON, tables of text, Parquet and Arrow, compressed or not."""

import shlex
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from gptexp.config import schema
from gptexp.data.corpora import arrow_tables, delimited, json_records, tar_records
from gptexp.data.corpora.fields import Record
from gptexp.data.corpora.find_files import find_files
from gptexp.data.corpora.open_file import explain_damage, extension_by_name, open_bytes
from gptexp.errors import UserError, nearest

RECORD_EXTENSIONS = (*json_records.EXTENSIONS, *delimited.EXTENSIONS, *arrow_tables.EXTENSIONS)
TEXT_EXTENSIONS = (".txt", ".md")
KNOWN_EXTENSIONS = (*TEXT_EXTENSIONS, *RECORD_EXTENSIONS, *tar_records.EXTENSIONS)
ADVICE = {  # for files that are not read -> their extensions
    "Save the sheet as CSV": ".xlsx .xls .xlsm .ods .numbers",
    "Unpack it, and give the folder or a file of it": ".tgz .7z .rar",
    "Save it as plain text (.txt)": ".docx .doc .odt .rtf .pdf .html .htm .epub",
    "Write its records as JSON lines (.jsonl), CSV or Parquet": (
        ".pkl .pickle .npy .npz .h5 .hdf5 .db .sqlite .xml .tmx .yaml .yml"
    ),
}


def read_records(
    file: Path, extension: str, config: schema.TableConfig, names: Collection[str] = ()
) -> Iterator[tuple[str, Record]]:
    """Yield the place and the values of each record.

    Args:
        extension: one of KNOWN_EXTENSIONS but those of texts, as `known_extension` returns it.
        names: the names of the fields that are read.

    Raises:
        UserError: the file is damaged or of another layout.
    """
    if extension in json_records.EXTENSIONS:
        return json_records.read_json(file, extension, config.encoding, names)
    if extension in delimited.EXTENSIONS:
        return delimited.read_delimited(
            file, extension, config.encoding, config.separator, config.quoting
        )
    if extension in tar_records.EXTENSIONS:
        return tar_records.read_tar(file, names)
    return arrow_tables.read_arrow(file, extension)


def find_readable_files(path: str, key: str) -> tuple[list[Path], list[Path]]:
    """Return the files to read that a path names, and the other files of a folder.

    Args:
        key: the setting, for messages.

    Raises:
        UserError: there is no file to read.
    """
    files, others = find_files(path, key), list[Path]()
    if Path(path).is_dir():
        files, others = select_files(files, KNOWN_EXTENSIONS)
        if not files:
            raise UserError(
                f"{key}={path}: no file in this folder ends in {', '.join(KNOWN_EXTENSIONS)} (hidden files and "
                f"folders are skipped)"
            )
    return files, others


def select_files(
    files: Iterable[Path], extensions: tuple[str, ...]
) -> tuple[list[Path], list[Path]]:
    """Divide the files of a folder into those to read, which have one of the extensions, and the others.

    A .json file beside files to read is not read: programs write settings and descriptions into such files.
    """
    extension_of = {file: _extension_in_folder(file) for file in files}
    readable = [file for file, extension in extension_of.items() if extension in extensions]
    selected = [file for file in readable if extension_of[file] != ".json"] or readable
    return selected, [file for file in extension_of if file not in set(selected)]


def _extension_in_folder(file: Path) -> str:
    """Return the extension of the content; ".zip" for a zip file that has several files or is damaged."""
    try:
        return extension_by_name(file)
    except UserError:
        return file.suffix.lower()


def known_extension(file: Path) -> str:
    """Return the known extension of a file's content, by its name or else by its first bytes.

    Raises:
        UserError: the layout is not known.
    """
    extension = extension_by_name(file)
    if extension in KNOWN_EXTENSIONS:
        return extension
    for advice, extensions in ADVICE.items():
        if extension in extensions.split():
            raise UserError(f"{file}: '{extension}' files are not read. {advice}")
    if by_content := extension_by_content(file):
        return by_content
    raise UserError(
        f"{file}: '{extension}' is not a known extension.{nearest(extension, KNOWN_EXTENSIONS)} Known: "
        f"{', '.join(KNOWN_EXTENSIONS)}, also compressed (.gz, .bz2, .xz, .zst, .zip). If it is plain text, copy it "
        f"under another name: cp {shlex.quote(str(file))} {shlex.quote(str(file.with_suffix('.txt')))}"
    )


def extension_by_content(file: Path) -> str:
    """Return the extension that fits the first bytes of a file: that of JSON, Parquet or Arrow; "": none does."""
    with explain_damage(file), open_bytes(file) as stream:
        head = stream.read(64)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return ".json"
    return next(
        (extension for magic, extension in arrow_tables.MAGIC.items() if head.startswith(magic)), ""
    )
