"""Pairs for summarization: all that a docstring says below its first line, and the first line, a summary by PEP 257.

The source begins with a header, the name and signature of what is documented: a summary mostly repeats their words.
Its markup and code examples are left out, and it is cut to the first 600 characters, so that it fits into a context.
Half of the summaries use words that stand nowhere in their source; a model can only learn to invent them. Such pairs
are not `supported` and never trained on.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from gptexp.data.corpora.corpus import Example
from gptexp.data.corpora.docstring_markup import plain_text
from gptexp.data.corpora.docstrings import Docstring

SUMMARY_WORDS = range(3, 31)
# Below the first line:
MIN_SOURCE_WORDS = 20  # where there is no code
MAX_SOURCE_CHARACTERS = 600  # about 170 tokens; the rest is mostly arguments and examples
MIN_SUPPORT = 0.5
UNSUPPORTED = "less than half of the summary's words stand in the source"
# "Return the name." of a getter repeats its name
BARE_RETURN = re.compile(r"Returns?(?: \S+){1,2}")
# read, Csv of readCsv; read, csv of read_csv
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")
_STOP_WORDS = """
    a about above after all also an and any are as at be been before being below between both but by can could did
    do does each either else etc for from get given has have how if in instead into is it its may more most must no
    nor not of off on one only onto or other otherwise our out over own s same set should so some such t than that the
    their them then there these they this those through to too under until up upon use used using via was we were what
    when where whether which while who will with within without would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


class SummaryPair(NamedTuple):
    source: str
    summary: str

    @property
    def is_supported(self) -> bool:
        """Whether at least half of the summary's content words stand in the source."""
        return support(self.summary, self.source) >= MIN_SUPPORT

    def example(self, split: str, group: str | None = None) -> Example:
        """Return the example of the pair. If it is unsupported, it is left out, and a test pair is in `unsupported`."""
        example = Example({"source": self.source, "target": self.summary}, split, group=group)
        if not self.is_supported and split == "test":
            example.split = "unsupported"
        elif not self.is_supported:
            example.leave_out(UNSUPPORTED, self.summary)
        return example


def summary_pair(docstring: Docstring, with_code: bool = False) -> SummaryPair | None:
    """Return the pair of a docstring with a one-sentence first paragraph and enough below it, else None."""
    first, _, rest = docstring.text.partition("\n\n")
    summary = plain_text(first)
    is_sentence = summary.endswith(".") and ". " not in summary
    if not is_sentence or len(summary.split()) not in SUMMARY_WORDS:
        return None
    if BARE_RETURN.fullmatch(summary[:-1]):
        return None
    body = plain_text(rest)
    code = docstring.code if with_code else ""
    if not code and len(body.split()) < MIN_SOURCE_WORDS:
        return None
    parts = [docstring.header, cut_source(body), code]
    return SummaryPair("\n".join(part for part in parts if part), summary)


def cut_source(text: str) -> str:
    """Return the first words of a text: up to MAX_SOURCE_CHARACTERS."""
    if len(text) <= MAX_SOURCE_CHARACTERS:
        return text
    return text[: MAX_SOURCE_CHARACTERS + 1].rsplit(maxsplit=1)[0]


def support(answer: str, source: str) -> float:
    """Return the share of the content words of `answer` that stand in `source`, by their stems; 1 if it has none."""
    words = content_words(answer)
    return len(words & content_words(source)) / len(words) if words else 1.0


def content_words(text: str) -> set[str]:
    """Return the stems of the words of a text, and of the words that its names consist of, without stop words."""
    words = {word.lower() for word in WORD.findall(text)} - STOP_WORDS
    return {_stem(word) for word in words}


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    from nltk.stem.porter import PorterStemmer  # 0.2 s, and most tasks need no stems

    return PorterStemmer().stem(word)
