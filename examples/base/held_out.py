"""Keep the texts that tasks validate and test with out of the corpus.

A docstring or a description is held out by the rule of its task. No other text may repeat its paragraphs of MIN_WORDS
words or more, and no paragraph of a manual or a description may share more than half of its sequences of eight words
with held-out texts.
"""

import hashlib
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.config.base_weights import HELD_OUT_FRACTION
from gptexp.data.duplicates import crc32, normalized_hash
from gptexp.data.permutation import splitmix64

WORDS_PER_SEQUENCE = 8
MAX_SHARED = 0.5  # of the word sequences of a paragraph
MIN_WORDS = 5  # of a paragraph that may not be repeated
MIN_TEXT_WORDS = 3  # of a text, which may be a summary
WORD = re.compile(r"\w+")
PARAGRAPH = re.compile(r"\n[ \t]*\n")
PYDOCS = schema.PydocsConfig()
UNSEEN_PACKAGES = frozenset(PYDOCS.unseen)
DOCUMENTS = 0.01  # of the other documents in each of the validation and test splits


def docstring_split(text: str) -> str:
    """Return the split of a docstring by the rule of data=pydocs: the position of its hash."""
    (number,) = np.frombuffer(normalized_hash(text), np.uint64)
    position = float(splitmix64(np.array([number]))[0] / 2.0**64)
    return _split_at(position, PYDOCS.test_fraction, PYDOCS.val_fraction)


def description_split(source: str) -> str:
    """Return the split of the packages of a source package by the rule of data=debian."""
    position = int.from_bytes(normalized_hash(source), "little") / 2**64
    return _split_at(position, HELD_OUT_FRACTION / 2, HELD_OUT_FRACTION / 2)


def document_split(text: str) -> str:
    """Return the split of a document of any other kind, by the hash of its text."""
    digest = hashlib.blake2b(normalized_hash(text), digest_size=8, person=b"base").digest()
    return _split_at(int.from_bytes(digest, "little") / 2**64, DOCUMENTS, DOCUMENTS)


def _split_at(position: float, test: float, val: float) -> str:
    if position < test:
        return "test"
    return "val" if position < test + val else "train"


def word_sequences(text: str) -> NDArray[np.uint64]:
    """Return the hashes [N] of all sequences of WORDS_PER_SEQUENCE words; of a shorter text, of all of it."""
    words = WORD.findall(text.lower())
    hashes = np.fromiter(map(crc32, words), np.uint64, len(words))
    length = min(len(words), WORDS_PER_SEQUENCE)
    count = len(words) - length + 1
    keys = np.zeros(count if words else 0, np.uint64)
    for place in range(length):
        keys = splitmix64(keys + hashes[place : place + count])
    return keys


class HeldOutTexts:
    """The texts that no document may quote."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.hashes: set[bytes] = set()
        sequences = [np.zeros(0, np.uint64)]
        for text in texts:
            if len(text.split()) >= MIN_TEXT_WORDS:
                self.hashes.add(normalized_hash(text))
            for paragraph in PARAGRAPH.split(text):
                if len(paragraph.split()) >= MIN_WORDS:
                    self.hashes.add(normalized_hash(paragraph))
            sequences += map(word_sequences, PARAGRAPH.split(text))
        self.sequences = np.unique(np.concatenate(sequences))

    def contains(self, line: str) -> bool:
        """Return whether a line is a text or a paragraph of one."""
        return normalized_hash(line) in self.hashes

    def quotes(self, paragraph: str) -> bool:
        """Return whether a paragraph is one of the texts', or shares more than half of its word sequences with them."""
        if self.contains(paragraph):
            return True
        keys = word_sequences(paragraph)
        if not len(keys) or not len(self.sequences):
            return False
        places = np.searchsorted(self.sequences, keys).clip(max=len(self.sequences) - 1)
        return bool((self.sequences[places] == keys).mean() > MAX_SHARED)
