"""The data: words of random letters, and their letters in alphabetical order."""

import random
from collections.abc import Iterator
from typing import Any

from gptexp.data.corpora import Corpus, Example


class Letters(Corpus):
    supported_fields = (("source", "target"),)

    def __init__(self, words: int = 4000, alphabet: str = "abcdefgh", longest: int = 8) -> None:
        self.words, self.alphabet, self.longest = words, alphabet, longest

    def __iter__(self) -> Iterator[Example]:
        rng = random.Random(0)
        for _ in range(self.words):
            letters = rng.choices(self.alphabet, k=rng.randint(2, self.longest))
            yield Example({"source": "".join(letters), "target": "".join(sorted(letters))})

    def describe(self) -> dict[str, Any]:
        return {"words": self.words, "alphabet": self.alphabet, "longest": self.longest}
