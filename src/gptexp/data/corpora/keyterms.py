"""Paragraphs of documentation without their markup, and the terms that their author had marked as code or reference."""

import re
from collections.abc import Iterator

# ``code``, `reference`, :role:`reference`, :role:`text <reference>`
MARKED = re.compile(r"(?::[\w+.-]+(?::[\w+.-]+)?:)?(``|`)(?!`)(.+?)\1(?!`)_{0,2}")
LONGEST = 40  # characters of a term
WORDS = range(12, 161)  # of a paragraph


def key_terms(text: str) -> Iterator[tuple[str, str]]:
    """(paragraph, its terms separated by semicolons) for each paragraph of prose that has marked terms."""
    for paragraph in re.split(r"\n\s*\n", text):
        if ">>>" in paragraph or paragraph.startswith(("    ", "\t")) or ";" in paragraph:
            continue
        line = " ".join(paragraph.split())
        terms = dict.fromkeys(_plain(found[2]) for found in MARKED.finditer(line))
        plain = MARKED.sub(lambda found: _plain(found[2]), line)
        if "`" in plain or len(plain.split()) not in WORDS:
            continue
        good = [term for term in terms if 1 < len(term) <= LONGEST and re.search(r"\w", term)]
        if good and len(good) == len(terms) and sum(map(len, good)) < len(plain) / 2:
            yield plain, "; ".join(good)


def _plain(marked: str) -> str:
    """What a reader sees of a marked term: `text <target>` shows text, `~a.b.c` shows c."""
    text = re.sub(r"\s*<[^>]*>$", "", marked).strip()
    return text.rsplit(".", 1)[-1] if text.startswith("~") else text
