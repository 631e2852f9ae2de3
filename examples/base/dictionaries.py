"""Read dictionaries as entries of a headword and its senses."""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Entry(NamedTuple):
    word: str
    text: str  # all senses, without etymologies and sources


MIN_WORDS = 4  # of a paragraph or a sense
SENSE_LABEL = re.compile(r"^(?:\d+\. )?(?:\d+ )?(?:\([A-Z][^)]*\) )?")  # "1. (Naut.) "
WORDNET_KINDS = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}


def read_foldoc(text: str) -> Iterator[Entry]:
    """Yield the entries of FOLDOC: headwords at the margin, paragraphs indented, a date at the end."""
    for word, paragraphs in _by_margin(text):
        yield from _entry(word, [text for text in paragraphs if not re.match(r"\(\d{4}-", text)])


def read_jargon(text: str) -> Iterator[Entry]:
    """Yield the entries of the Jargon File: headwords at the margin, paragraphs indented."""
    for word, paragraphs in _by_margin(text):
        yield from _entry(word, paragraphs)


def read_gcide(text: str) -> Iterator[Entry]:
    """Yield the entries of GCIDE: `Word \\pronunciation\\, n. [etymology]`, then the senses."""
    for block in re.split(r"\n(?=\S[^\n]*\\)", text):
        head, _, body = block.partition("\n")
        word, rest = head.split("\\")[0].strip(), head.rsplit("\\", 1)[-1]
        if rest.count("[") > rest.count("]"):  # the etymology ends below
            body = body[body.find("]") + 1 :]
        body = re.sub(r"\[[^][]*\]", "", body)  # sources and etymologies
        body = re.sub(r"--\s*[A-Z][\w. ]*(?:\([^)]*\)|[\w. ]*)?\.?", "", body)  # who is quoted
        body = re.split(r"\n\s*Syn:", re.sub(r"[{}]", "", body))[0]
        senses = [" ".join(part.split()) for part in re.split(r"\n\s*\n|\n\s*(?=\d+\. )", body)]
        senses = [SENSE_LABEL.sub("", sense, count=1) for sense in senses]
        part_of_speech = re.search(
            r"\\,? *((?:prop\. )?(?:n|v|adj|a|adv|prep|conj|interj)\.)", head
        )
        if word and part_of_speech:
            word = f"{word} ({part_of_speech[1]})"
        # Greek words are question marks.
        yield from _entry(word, [sense for sense in senses if "?" not in sense[:40]])


def read_wordnet(text: str) -> Iterator[Entry]:
    """Yield the synsets of a `data` file of WordNet: all words of one, and their gloss."""
    for line in text.splitlines():
        if line.startswith(" "):  # the licence
            continue
        columns, _, gloss = line.partition(" | ")
        _, _, kind, count, *rest = columns.split(" ")
        words = [word.replace("_", " ") for word in rest[: 2 * int(count, 16) : 2]]
        words = [re.sub(r"\((?:a|p|ip)\)$", "", word) for word in words]
        yield Entry(f"{', '.join(words)} ({WORDNET_KINDS[kind]})", " ".join(gloss.split()))


def _by_margin(text: str) -> Iterator[tuple[str, list[str]]]:
    for block in re.split(r"\n(?=\S)", text):
        word, _, body = block.partition("\n")
        paragraphs = re.split(r"\n\s*\n", re.sub(r"[{}]", "", body))
        yield word.strip(), [" ".join(paragraph.split()) for paragraph in paragraphs]


def _entry(word: str, paragraphs: list[str]) -> Iterator[Entry]:
    """Yield the entry unless nothing of it is a sentence."""
    long = [paragraph for paragraph in paragraphs if len(paragraph.split()) >= MIN_WORDS]
    if word and long:
        yield Entry(word, "\n".join(long))
