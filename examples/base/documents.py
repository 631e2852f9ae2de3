"""Turn the lines of a package into documents: {"kind": ..., "text": ...} with all that its records need."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from extract import Line
from held_out import MIN_WORDS, PARAGRAPH, HeldOutTexts, description_split, docstring_split
from markup import Section

from gptexp.data.corpora.docstring_markup import plain_text

Document = dict[str, Any]

ENTRIES_PER_DOCUMENT = 8
MIN_PAGE = 100  # characters; a shorter page says little
MAX_PAGE = 8000  # characters; a longer page is several documents, cut between sections
QUOTES, FIRST_LINE, CODE = (
    "paragraphs that quote a held-out text",
    "docstrings with a held-out first line",
    "code with a held-out first line",
)
STRING = re.compile(r"""(["'])(.+?)\1""")  # in a line of code


def is_held_out(line: Line, is_unseen: bool = False) -> bool:
    """Return whether a task validates or tests with the text of a line, which may be of an unseen package."""
    if line["kind"] == "docstring":
        return is_unseen or docstring_split(line["text"]) != "train"
    return line["kind"] == "description" and description_split(line["source"]) != "train"


def held_out_texts(line: Line) -> list[str]:
    """Return the texts of a held-out line that no document may quote."""
    if line["kind"] == "docstring":
        return [line["text"], plain_text(PARAGRAPH.split(line["text"])[0])]
    return [line["synopsis"], *line["paragraphs"]]


def make_documents(
    lines: Iterator[Line], held_out: HeldOutTexts, left_out: Counter[str]
) -> Iterator[Document]:
    """Yield the documents of a package, in order.

    Args:
        held_out: texts that no document may quote.
        left_out: counts what is left out, by reason.
    """
    entries: list[Line] = []
    for line in lines:
        kind = line["kind"]
        if kind == "entry":
            entries.append(line)
        elif kind == "page":
            yield from _pages(line, held_out, left_out)
        elif kind == "docstring":
            yield from _docstring(line, held_out, left_out)
        elif kind == "code" and _has_held_out_line(line["text"], held_out):
            left_out[CODE] += 1
        elif kind != "description":
            yield line
        elif not held_out.contains(line["synopsis"]):
            paragraphs = _without_quotes(line["paragraphs"], held_out, left_out)
            text = "\n".join([f"{line['package']}: {line['synopsis']}", *paragraphs])
            yield line | {"paragraphs": paragraphs, "text": text}
    for start in range(0, len(entries), ENTRIES_PER_DOCUMENT):
        batch = entries[start : start + ENTRIES_PER_DOCUMENT]
        pairs = [(entry["word"], entry["text"]) for entry in batch]
        text = "\n".join(f"{word}: {definition}" for word, definition in pairs)
        yield {"kind": "entries", "text": text, "entries": pairs}


def _docstring(line: Line, held_out: HeldOutTexts, left_out: Counter[str]) -> Iterator[Document]:
    first, *others = PARAGRAPH.split(line["text"])
    if held_out.contains(plain_text(first)):
        left_out[FIRST_LINE] += 1
        return
    rest = [text for text in others if not held_out.contains(text)]
    left_out[QUOTES] += len(others) - len(rest)
    document = line if len(rest) == len(others) else line | {"text": "\n\n".join([first, *rest])}
    yield document | {"code": ""} if _has_held_out_line(line["code"], held_out) else document


def _has_held_out_line(code: str, held_out: HeldOutTexts) -> bool:
    """Return whether a line of code, a comment or a string in a line is a held-out text or a paragraph of one."""
    return any(
        len(text.split()) >= MIN_WORDS and held_out.contains(text)
        for line in code.splitlines()
        for text in (line.strip("\"'# \t"), *(match[2] for match in STRING.finditer(line)))
    )


def _pages(line: Line, held_out: HeldOutTexts, left_out: Counter[str]) -> Iterator[Document]:
    sections = []
    for title, paragraphs in line["sections"]:
        if rest := _without_quotes(paragraphs, held_out, left_out):
            sections.append(Section(title, rest))
    sizes = [sum(map(len, section.paragraphs)) for section in sections]
    # Sections of one document start in the same stretch of MAX_PAGE characters.
    starts = [total - size for total, size in zip(itertools.accumulate(sizes), sizes, strict=True)]
    summary = "" if held_out.contains(line["summary"]) else line["summary"]
    numbered = zip(starts, sections, strict=True)
    for stretch, group in itertools.groupby(numbered, lambda pair: pair[0] // MAX_PAGE):
        part = [section for _, section in group]
        text = "\n\n".join(
            "\n".join(filter(None, [title, *paragraphs])) for title, paragraphs in part
        )
        if len(text) >= MIN_PAGE:
            page = {"kind": "page", "text": text, "name": line["name"], "sections": part}
            yield page | {"summary": "" if stretch else summary}


def _without_quotes(
    paragraphs: list[str], held_out: HeldOutTexts, left_out: Counter[str]
) -> list[str]:
    rest = [text for text in paragraphs if not held_out.quotes(text)]
    left_out[QUOTES] += len(paragraphs) - len(rest)
    return rest
