"""Extract paragraphs of documentation and the terms that their author marked as code or as a reference.

Only running text has all its terms marked: an author who lists arguments marks no names.
"""

import re
from collections.abc import Iterator

# ``code``, `reference`, :role:`reference`, :role:`text <reference>`
MARKED = re.compile(r"(?::[\w+.-]+(?::[\w+.-]+)?:)?(``|`)(?!`)(.+?)\1(?!`)_{0,2}")
HEADING = re.compile(r"\A[^\n]*\n[ \t]*([-=~^*])\1{2,}[ \t]*(?:\n|\Z)")  # with its underline
MAX_CHARACTERS = 40  # of a term
PARAGRAPH_WORDS = range(12, 161)


def extract_key_terms(text: str) -> Iterator[tuple[str, str]]:
    """Yield each paragraph with marked terms, without markup, and its terms separated by semicolons."""
    for section in re.split(r"\n\s*\n", text):
        paragraph = HEADING.sub("", section)
        if ">>>" in paragraph or ";" in paragraph or not _is_prose(paragraph):
            continue
        line = " ".join(paragraph.split())
        terms = dict.fromkeys(_strip_markup(match[2]) for match in MARKED.finditer(line))
        plain = MARKED.sub(lambda match: _strip_markup(match[2]), line)
        if "`" in plain or len(plain.split()) not in PARAGRAPH_WORDS:
            continue
        is_usable = all(
            1 < len(term) <= MAX_CHARACTERS and re.search(r"\w", term) for term in terms
        )
        if terms and is_usable and sum(map(len, terms)) < len(plain) / 2:
            yield plain, "; ".join(terms)


def _is_prose(paragraph: str) -> bool:
    """Return whether a paragraph is running text: its lines are indented alike, and less than code.

    The lines of a list of arguments are not. Its names are terms, but no author marks them.
    """
    indents = {len(line) - len(line.lstrip()) for line in paragraph.splitlines()}
    return len(indents) == 1 and max(indents) < 4 and not paragraph.startswith(":")


def _strip_markup(marked: str) -> str:
    """Return a marked term as it is displayed: text for `text <target>`, c for `~a.b.c`."""
    text = re.sub(r"\s*<[^>]*>$", "", marked).strip()
    return text.rsplit(".", 1)[-1] if text.startswith("~") else text
