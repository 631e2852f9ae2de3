"""Extract the texts of one package as lines, JSON objects that the later steps read.

Kinds of lines: a docstring (header, text, code), the code of a source file (text), a page of a manual (name, summary,
sections), an entry of a dictionary (word, text), a Debian description (package, source, synopsis, paragraphs).
"""

import ast
import gzip
import itertools
import json
import re
import subprocess
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from descriptions import read_descriptions, source_packages
from dictionaries import Entry, read_foldoc, read_gcide, read_jargon, read_wordnet
from fetch import MAIN_LISTS, find_main_list
from markup import Section, is_prose, strip_tags
from pages import Page, read_pages, read_text

from gptexp.data.corpora.docstrings import parse_docstrings

Line = dict[str, Any]

CODE_CHARACTERS = range(400, 60_001)  # of a source file
MAX_CODE_LINE = 200  # characters; a longer line is data
MIN_CODE_LETTERS = 0.45  # of all characters; a file with fewer is a table
NO_PYTHON = {"site-packages", "__pycache__"}
NO_CODE = {"tests", "test", "testing", "_vendor", "vendor", "migrations", "locale"}
FIRST_COMMENT = re.compile(r"\A(?:#.*\n|\s*\n)+")
EMPTY_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+\n")


def read_package(registry: str, name: str, folder: Path) -> Iterator[Line]:
    """Yield the lines of an unpacked package."""
    if name in DICTIONARIES:
        yield from ({"kind": "entry", **entry._asdict()} for entry in DICTIONARIES[name](folder))
        return
    if registry == "pypi":
        yield from read_python(folder)
    pages = read_pages(folder) if registry == "debian" else read_json(folder)
    yield from ({"kind": "page", **page._asdict()} for page in pages)


def read_python(folder: Path) -> Iterator[Line]:
    """Yield the docstrings of the source files of a folder, and each file's code without its docstrings."""
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
    for path in files:
        folders = set(path.relative_to(folder).parts)
        if folders & NO_PYTHON:
            continue
        for docstring in parse_docstrings(path):
            yield {"kind": "docstring", **docstring._asdict()}
        if not folders & NO_CODE and not path.name.startswith("test") and (code := read_code(path)):
            yield {"kind": "code", "text": code}


def read_code(path: Path) -> str:
    """Return a source file without docstrings and first comment.

    Returns an empty string where the file does not parse, is data, or is of another size.
    """
    try:
        text = remove_docstrings(FIRST_COMMENT.sub("", path.read_text(encoding="utf-8-sig")))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ""
    text = text.strip()
    text = EMPTY_LINES.sub("\n\n", text)
    # A string that is left may hold source code with docstrings.
    if len(text) not in CODE_CHARACTERS or '"""' in text or "'''" in text:
        return ""
    has_letters = sum(map(str.isalpha, text)) >= MIN_CODE_LETTERS * len(text)
    return text if has_letters and max(map(len, text.splitlines())) <= MAX_CODE_LINE else ""


def remove_docstrings(source: str) -> str:
    """Return Python source without the strings that are statements, nor the lines that hold nothing else.

    Raises:
        SyntaxError, ValueError or RecursionError: it does not parse.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in strings
        tree = ast.parse(source)
    lines = source.encode().split(b"\n")  # columns of a tree count bytes
    strings = [
        (node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    for first, start, last, end in sorted(strings, reverse=True):
        before, after = lines[first - 1][:start], lines[last - 1][end:].lstrip(b" \t;")
        is_code = before.strip() or (after and not after.startswith(b"#"))
        lines[first - 1 : last] = [before + after] if is_code else []
    return b"\n".join(lines).decode()


def read_json(folder: Path) -> Iterator[Page]:
    """Yield the prose of each JSON file, with a section for every object: documented interfaces, or facts."""
    for path in sorted(folder.rglob("*.json*")):
        if path.suffix not in (".json", ".gz") or path.name == "package.json":
            continue
        try:
            sections = list(_json_sections(json.loads(read_text(path)), ""))
        except (ValueError, RecursionError):
            continue
        if sections:
            yield Page(path.name.partition(".")[0], "", sections)


def _json_sections(value: Any, title: str) -> Iterator[Section]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return
    texts = [strip_tags(text) for text in value.values() if isinstance(text, str)]
    if paragraphs := list(filter(is_prose, texts)):
        yield Section(title, paragraphs)
    for name, child in value.items():
        yield from _json_sections(child, str(name))


def read_debian_descriptions(lists: Path) -> Iterator[Line]:
    """Yield the descriptions in Debian's main list, each with its source package."""
    packages, english = (_read_list(lists, kind) for kind in MAIN_LISTS)
    sources = source_packages(packages)
    for description in read_descriptions(english):
        source = sources.get(description.package, description.package)
        yield {"kind": "description", "source": source, **description._asdict()}


def _read_list(lists: Path, kind: str) -> str:
    file = find_main_list(lists, kind)
    if file is None:
        raise FileNotFoundError(f"{lists}: has no list *_main_{kind} of a plain suite")
    command = ["/usr/lib/apt/apt-helper", "cat-file", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _read_wordnet(folder: Path) -> Iterator[Entry]:
    files = [folder / f"usr/share/wordnet/data.{kind}" for kind in ("noun", "verb", "adj", "adv")]
    return itertools.chain.from_iterable(read_wordnet(read_text(path)) for path in files)


def _dictd(name: str, read: Callable[[str], Iterator[Entry]]) -> Callable[[Path], Iterator[Entry]]:
    return lambda folder: read(read_text(folder / f"usr/share/dictd/{name}.dict.dz"))


DICTIONARIES: dict[str, Callable[[Path], Iterator[Entry]]] = {
    "dict-foldoc": _dictd("foldoc", read_foldoc),
    "dict-jargon": _dictd("jargon", read_jargon),
    "dict-gcide": _dictd("gcide", read_gcide),
    "wordnet-base": _read_wordnet,
}


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """Write lines to a compressed file, all or nothing."""
    temporary = path.with_suffix(".part")
    with gzip.open(temporary, "wt", encoding="utf8", compresslevel=3) as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)
    temporary.rename(path)


def read_lines(path: Path) -> Iterator[Line]:
    with gzip.open(path, "rt", encoding="utf8") as lines:
        yield from map(json.loads, lines)
