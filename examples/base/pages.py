"""Find the pages of a manual in an unpacked package, and read each by its kind."""

import bz2
import gzip
import lzma
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from markup import Section, read_html, read_man, read_pod, read_rst, read_xml

LANGUAGES = (
    "(?:ar|bg|bs|ca|cs|da|de|el|eo|es|et|eu|fa|fi|fr|gl|he|hi|hr|hu|id|it|ja|ko|lt|lv|mk|ml|nb|nl|nn|pa|pl|pt|ro|ru"
    "|sk|sl|sr|sv|ta|te|th|tr|uk|vi|zh)(?:[-_@][A-Za-z]+)?"
)
# Second forms of the same pages, code, and other languages.
SKIPPED_FOLDERS = re.compile(f"_sources|_static|_images|examples|search|locale|{LANGUAGES}")
IN_LANGUAGE = re.compile(rf".*\.{LANGUAGES}(?:\.\w+)+")
SKIPPED_FILES = re.compile(
    r"(?:genindex(?:-.+)?|py-modindex|search|index-.+|copyright|changelog|news|licen[cs]e|authors|thanks|contributors"
    r"|404|toc|nav)(?:\.\w+)*",
    re.I,
)
MAN_PAGE = re.compile(r"/man/man\d\w*/[^/]+\.\d\w*(\.gz)?$")
MAN_NAME = re.compile(r'^\.SH "?NAME"?\n(.*?)^\.S', re.M | re.S)
MAN_LINES = re.compile(r"^\.(?:B|I|BR|RB|IR|TH|\\\").*\n?", re.M)
MAX_BYTES = 4_000_000  # of a file
COMPRESSED: dict[str, Callable[..., IO[bytes]]] = {
    ".gz": gzip.open,
    ".dz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
READERS: dict[str, Callable[[str], list[Section]]] = {
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".pod": read_pod,
    ".rst": read_rst,
    ".txt": read_rst,
    ".md": read_rst,
    ".xml": read_xml,
    ".docbook": read_xml,
    ".page": read_xml,
    ".xhp": read_xml,
}


class Page(NamedTuple):
    name: str
    summary: str  # the NAME of a man page, else empty
    sections: list[Section]


def read_pages(folder: Path) -> Iterator[Page]:
    """Yield the pages of an unpacked package in the order of their paths."""
    for path in sorted(folder.rglob("*")):
        folders = path.relative_to(folder).parts[:-1]
        if path.is_symlink() or not path.is_file() or any(map(SKIPPED_FOLDERS.fullmatch, folders)):
            continue
        is_skipped = SKIPPED_FILES.fullmatch(path.name) or IN_LANGUAGE.fullmatch(path.name)
        if is_skipped or path.stat().st_size > MAX_BYTES:
            continue
        name = path.stem if path.suffix in COMPRESSED else path.name
        suffix = Path(name).suffix
        is_man = bool(MAN_PAGE.search(str(path)))
        read = read_man if is_man else READERS.get(suffix.lower())
        if read is None:
            continue
        text = read_text(path)
        if sections := read(text):
            yield Page(name.removesuffix(suffix), man_summary(text) if is_man else "", sections)


def read_text(path: Path) -> str:
    """Return the text of a file, which may be compressed; bytes that are not UTF-8 are read as Latin-1."""
    with COMPRESSED.get(path.suffix, open)(path, "rb") as file:
        data = file.read()
    try:
        return data.decode("utf8")
    except UnicodeDecodeError:
        return data.decode("latin1")


def man_summary(page: str) -> str:
    """Return the line behind the names in the section NAME of a man page; an empty string where there is none."""
    match = MAN_NAME.search(page)
    if not match:
        return ""
    line = " ".join(re.sub(r"\\f.", "", MAN_LINES.sub("", match[1])).split())
    _, _, summary = re.sub(r" (?:\\-|-|--|\\\(em|\\\(en) ", "\0", line, count=1).partition("\0")
    return summary.replace("\\-", "-").replace("\\&", "").strip()
