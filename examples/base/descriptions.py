"""Debian's package descriptions: a synopsis of a line, and paragraphs."""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Description(NamedTuple):
    package: str
    synopsis: str
    paragraphs: list[str]


def read_descriptions(text: str) -> Iterator[Description]:
    """Yield the descriptions of a Translation-en list; lists, which are indented, are kept as lines."""
    for stanza in text.split("\n\n"):
        package = re.search(r"^Package: (.+)$", stanza, re.M)
        body = re.search(r"^Description-en: (.*)\n((?: .*\n?)*)", stanza, re.M)
        if not package or not body:
            continue
        paragraphs = re.split(r"^ \.\s*$", body[2], flags=re.M)
        yield Description(package[1], body[1].strip(), [t for t in map(_plain, paragraphs) if t])


def _plain(paragraph: str) -> str:
    lines: list[str] = []
    for line in paragraph.splitlines():
        text = line[1:]
        if lines and not text.startswith((" ", "*", "-")):
            lines[-1] += " " + text.strip()
        elif text.strip():
            lines.append(text.strip())
    return "\n".join(lines)


def source_packages(packages_list: str) -> dict[str, str]:
    """Return the source package of each package of a Packages list."""
    sources = {}
    for stanza in packages_list.split("\n\n"):
        package = re.search(r"^Package: (.+)$", stanza, re.M)
        if package:
            source = re.search(r"^Source: (\S+)", stanza, re.M)
            sources[package[1]] = source[1] if source else package[1]
    return sources
