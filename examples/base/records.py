"""Records for training: the text of a document, and tasks whose answer the document states itself.

The text of a task opens with a tag in plain words. The summary of a docstring has none: it is the pair that
`task=summarize` learns. An answer is left out where fewer than half of its content words stand in its text, since a
model can only learn to invent them.
"""

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from gptexp.data.corpora.cleaning import MAX_REPEATS, Cleaner
from gptexp.data.corpora.docstrings import MIN_CHARACTERS, Docstring
from gptexp.data.corpora.keyterms import extract_key_terms
from gptexp.data.corpora.summaries import MIN_SUPPORT, content_words, summary_pair, support
from gptexp.data.duplicates import normalized_hash

Record = dict[str, str]  # {"text": ...} or {"text": ..., "answer": ...}
Document = dict[str, Any]

TAGS: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("tags.yaml").read_text())
MAX_SOURCE_WORDS = 250
MAX_CODE = 1500  # characters of a function that a record shows
# Shares of the documents, sections or paragraphs that could give a record:
SHARE_WITH_CODE = 0.6
SHARE_CODE = 0.4
SHARE_TERMS = 0.5
SHARE_TITLE = 0.5
SHARE_SENTENCE = 0.3
SHARE_DEFINITION = 0.15
TITLE_WORDS = range(2, 11)
SYNOPSIS_WORDS = range(3, 15)
SENTENCE_WORDS = range(6, 41)
SENTENCES = range(4, 21)  # of a text whose main sentence is asked for
MIN_SECTION_WORDS = 30
MIN_DESCRIPTION_WORDS = 12
TRIPLE_QUOTES = re.compile(r'"""|\'\'\'')
SECTION_NUMBER = re.compile(r"^(?:[\d.]+|[A-Z]\.[\d.]+|Chapter \d+\.?) ")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
# A line that a reference begins would pass for a field of a list.
ROLE_AT_START = re.compile(r"(?<=\S)\n[ \t]*(?=:[\w:-]+:`)")


class RecordMaker:
    """Makes the records of documents, which it gets in the order of the corpus.

    A paragraph is left out after MAX_REPEATS documents with it, and a record whose answer an earlier one has.
    """

    def __init__(self, rng: random.Random) -> None:
        self.random = rng
        self.cleaner = Cleaner()
        self.answers: dict[str, set[bytes]] = {}  # kind of record -> hashes
        self.makers: dict[str, Callable[[Document], Iterator[tuple[str, Record]]]] = {
            "docstring": self._from_docstring,
            "page": self._from_page,
            "entries": self._from_entries,
            "description": self._from_description,
            "code": self._from_code,
        }

    def make(self, document: Document) -> Iterator[tuple[str, Record]]:
        """Yield (kind, record) pairs."""
        for kind, record in self.makers[document["kind"]](document):
            if "answer" not in record or self._is_new_answer(kind, record["answer"]):
                yield kind, record

    def _is_new_answer(self, kind: str, answer: str) -> bool:
        answers = self.answers.setdefault(kind, set())
        digest = normalized_hash(answer)
        is_new = digest not in answers
        answers.add(digest)
        return is_new

    def _is_new_paragraph(self, paragraph: str) -> bool:
        digest = normalized_hash(paragraph)
        self.cleaner.counts[digest] += 1
        return self.cleaner.counts[digest] <= MAX_REPEATS

    def _draw(self, share: float) -> bool:
        return self.random.random() < share

    def _tagged(self, kind: str, text: str, answer: str) -> Record:
        return {"text": f"{self.random.choice(TAGS[kind])}\n{text}", "answer": answer}

    def _from_docstring(self, document: Document) -> Iterator[tuple[str, Record]]:
        docstring = Docstring(document["header"], document["text"], document["code"])
        prose = self.cleaner.extract_prose(ROLE_AT_START.sub(" ", docstring.text))
        if len(prose) >= MIN_CHARACTERS:
            yield "docstrings", {"text": prose}
        pair = summary_pair(docstring)
        if pair and pair.is_supported:
            yield "summary", {"text": pair.source, "answer": pair.summary}
        code = docstring.code
        # A nested function may have a held-out docstring.
        is_usable = code and len(code) <= MAX_CODE and not TRIPLE_QUOTES.search(code)
        if is_usable and self._draw(SHARE_WITH_CODE):
            pair = summary_pair(docstring, with_code=True)
            if pair and pair.is_supported:
                yield "summary with code", {"text": pair.source, "answer": pair.summary}
            text = f"{docstring.header}\n{code}"
            if pair and self._draw(SHARE_CODE) and support(pair.summary, text) >= MIN_SUPPORT:
                yield "code line", self._tagged("code", text, pair.summary)
        for paragraph, terms in extract_key_terms(docstring.text):
            if self._draw(SHARE_TERMS):
                yield "terms", self._tagged("terms", paragraph, terms)

    def _from_page(self, document: Document) -> Iterator[tuple[str, Record]]:
        parts = []
        for title, paragraphs in document["sections"]:
            new = list(filter(self._is_new_paragraph, paragraphs))
            if not new:
                continue
            parts.append("\n".join([title, *new] if title else new))
            text = " ".join(new)
            if self._draw(SHARE_TITLE) and (record := self._title(title, text)):
                yield "title", record
            elif self._draw(SHARE_SENTENCE) and (record := self._main_sentence(text)):
                yield "sentence", record
        if parts:
            yield "manuals", {"text": "\n\n".join(parts)}
        bodies = [
            paragraphs for title, paragraphs in document["sections"] if title == "Description"
        ]
        summary = document["summary"]
        if bodies and len(summary.split()) > 1:
            body = cut(" ".join(bodies[0]))
            text = f"{document['name']}\n{body}"
            is_pair = (
                len(body.split()) >= MIN_DESCRIPTION_WORDS and support(summary, text) >= MIN_SUPPORT
            )
            if is_pair:
                yield "manual page", self._tagged("manual page", text, summary)

    def _title(self, title: str, text: str) -> Record | None:
        title, text = SECTION_NUMBER.sub("", title), cut(text)
        is_long = len(title.split()) in TITLE_WORDS and len(text.split()) >= MIN_SECTION_WORDS
        if not is_long or support(title, text) <= MIN_SUPPORT:
            return None
        return self._tagged("title", text, title)

    def _main_sentence(self, text: str) -> Record | None:
        """Return the sentence that shares most words with the others, asked for from the others.

        Such sentences are better to pretrain summaries with than first or random ones (PEGASUS, arXiv 1912.08777).
        """
        sentences = SENTENCE_END.split(cut(text))
        if len(sentences) not in SENTENCES:
            return None
        words = [content_words(sentence) for sentence in sentences]
        overlaps = []
        for number, own in enumerate(words):
            others = set().union(*words[:number], *words[number + 1 :])
            overlaps.append(2 * len(own & others) / (len(own) + len(others)) if others else 0.0)
        answer = sentences.pop(overlaps.index(max(overlaps)))
        text = " ".join(sentences)
        if len(answer.split()) not in SENTENCE_WORDS or support(answer, text) < MIN_SUPPORT:
            return None
        return self._tagged("sentence", text, answer)

    def _from_entries(self, document: Document) -> Iterator[tuple[str, Record]]:
        if not self._draw(SHARE_DEFINITION):
            yield "entries", {"text": document["text"]}
            return
        for word, text in document["entries"]:
            definition = text.partition("\n")[0]
            if self._draw(0.5):
                tag = self.random.choice(TAGS["definition"]).format(word=word)
                yield "definition", {"text": tag, "answer": definition}
            else:
                bare = re.sub(r" \([^)]*\)$", "", word)  # without its part of speech
                yield "definition", self._tagged("word", definition, bare)

    def _from_description(self, document: Document) -> Iterator[tuple[str, Record]]:
        package, synopsis = document["package"], document["synopsis"]
        body = "\n\n".join(filter(self._is_new_paragraph, document["paragraphs"]))
        words = len(body.split())
        text = f"{package}\n{cut(body)}"
        is_pair = len(synopsis.split()) in SYNOPSIS_WORDS and words >= MIN_DESCRIPTION_WORDS
        if is_pair and support(synopsis, text) >= MIN_SUPPORT:
            yield "synopsis", self._tagged("synopsis", text, synopsis)
        elif body:
            yield "descriptions", {"text": f"{package}: {synopsis}\n{body}"}

    def _from_code(self, document: Document) -> Iterator[tuple[str, Record]]:
        yield "code", {"text": document["text"]}


def cut(text: str) -> str:
    """Return the first MAX_SOURCE_WORDS words of a text, up to the end of a sentence in their last half."""
    words = text.split(" ")
    if len(words) <= MAX_SOURCE_WORDS:
        return text
    start = " ".join(words[:MAX_SOURCE_WORDS])
    end = max(start.rfind(". "), start.rfind(".\n"))
    return start[: end + 1] if end > len(start) / 2 else start
