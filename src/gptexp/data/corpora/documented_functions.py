"""Functions of installed packages whose docstring supports its first line: what made conversations are about."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

from gptexp.data.corpora.docstrings import Docstring
from gptexp.data.corpora.pydocs import DocumentedPackages
from gptexp.data.corpora.summaries import MIN_SUPPORT, summary_pair, support

MAX_TEXT_CHARACTERS = 300  # of a docstring that a conversation shows, about 85 tokens
HEADER = re.compile(
    r"(?P<classes>(?:\w+\.)*)(?P<name>\w+)\((?P<arguments>[\w*, ]*)\)(?: -> (?P<returns>.+))?"
)


@dataclass(frozen=True)
class Function:
    """A documented function: all that questions are asked about."""

    header: str
    text: str  # of the docstring below its first line, without markup
    summary: str  # the first line
    name: str
    class_name: str  # of a method; "": it is none
    arguments: tuple[str, ...]
    returns: str  # the annotation; "": it has none

    @classmethod
    def from_docstring(cls, docstring: Docstring) -> Self | None:
        """Return the function that a docstring documents, if its text supports the first line; else None."""
        match = HEADER.fullmatch(docstring.header)
        pair = summary_pair(docstring) if match else None
        if match is None or pair is None:
            return None
        text = pair.source.partition("\n")[2]
        if len(text) > MAX_TEXT_CHARACTERS:
            text = text[: MAX_TEXT_CHARACTERS + 1].rsplit(maxsplit=1)[0]
        if support(pair.summary, f"{docstring.header}\n{text}") < MIN_SUPPORT:
            return None
        return cls(
            docstring.header,
            text,
            pair.summary,
            match["name"],
            match["classes"].rstrip(".").rpartition(".")[2],
            tuple(name for name in match["arguments"].split(", ") if name),
            match["returns"] or "",
        )

    @property
    def documentation(self) -> str:
        return f"{self.header}\n{self.text}"


class FunctionOfSplit(NamedTuple):
    function: Function
    other: Function  # another one of the same split, for what is not true of the function
    split: str
    rng: random.Random  # depends on the function alone


class DocumentedFunctions(DocumentedPackages):
    """Corpora whose examples are about functions."""

    def read_functions(self, title: str) -> Iterator[FunctionOfSplit]:
        """Yield each function but the first of a split, and show the progress under a title."""
        previous: dict[str, Function] = {}
        for docstring, split in self.read_docstrings(title):
            function = Function.from_docstring(docstring)
            if function is None:
                continue
            if other := previous.get(split):
                rng = random.Random(function.documentation)
                yield FunctionOfSplit(function, other, split, rng)
            previous[split] = function
