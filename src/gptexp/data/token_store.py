"""The token cache: a corpus encoded once for one task and one tokenizer, memory-mapped from then on.

A store is a folder named by a hash of corpus + split + tokenizer + task, and of the code that encodes (building.py).

    store/<key>/meta.json  tokenizer.json  train.tokens  train.index  val.tokens  ...  val.jsonl  test.jsonl

Of pictures and sound there are rows of features beside the tokens (train.features), and what is held out is kept as it
was (test.media).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora import Example
from gptexp.data.tokenizers import Tokenizer
from gptexp.files import loads_checked

INDEX = np.dtype(
    [
        ("offset", "<i8"),
        ("length", "<i4"),
        ("prefix", "<i4"),
        ("targets", "<i4"),
        ("row", "<i8"),
        ("rows", "<i4"),
    ]
)


@dataclass(slots=True)
class TokenizedExample:
    """One sequence as a task lays it out."""

    tokens: list[int]
    prefix: int = 0  # leading tokens that are given: no loss on them unless the task says so
    targets: int = 0  # positions that have a loss
    features: NDArray[np.uint8] | None = (
        None  # [rows, size] patches of a picture, or frames of a sound
    )


class ExampleEncoder(Protocol):
    """What the store asks of a task."""

    @property
    def fields(self) -> tuple[str, ...]: ...

    @property
    def stream(self) -> bool:
        """True: sequences are windows of one long stream; False: one sequence an example."""

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        """None for an example that the task cannot use."""

    def settings(self) -> dict[str, Any]:
        """What `encode` depends on."""


class TokenStore:
    """A finished store. Reading it costs no memory beyond what is touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = loads_checked((folder / "meta.json").read_text())
        self.tokenizer = Tokenizer.load(folder / "tokenizer.json")

    @property
    def fingerprint(self) -> str:
        """Of the corpus, and of all that has come out of it for this task and tokenizer."""
        return self.meta["fingerprint"]

    @property
    def content_fingerprint(self) -> str:
        """Of corpus, split and task, whatever the tokenizer."""
        return self.meta["content"]

    def has(self, split: str) -> bool:
        return self.meta["splits"][split]["sequences"] > 0

    def tokens(self, split: str) -> NDArray:
        """[N] token numbers of a split, one example after the other."""
        return _mapped(self.folder / f"{split}.tokens", np.dtype(self.meta["dtype"]))

    def index(self, split: str) -> NDArray:
        """[examples] records of INDEX: where each example's tokens are."""
        return _mapped(self.folder / f"{split}.index", INDEX)

    def features(self, split: str) -> NDArray[np.uint8]:
        """[rows, size] features of a split, one example after the other."""
        rows = _mapped(self.folder / f"{split}.features", np.dtype(np.uint8))
        return rows.reshape(-1, self.meta["feature_size"] or 1)

    def examples(self, split: str) -> Iterator[dict[str, Any]]:
        """The raw fields of a held-out split, for prompts and references; and its `media` as an array, if it has."""
        media = self.folder / f"{split}.media"
        with (
            (self.folder / f"{split}.jsonl").open(encoding="utf8") as lines,
            media.open("rb") as arrays,
        ):
            for line in lines:
                fields = json.loads(line)
                yield fields | ({"media": np.load(arrays)} if self.meta["feature_size"] else {})


def _mapped(path: Path, dtype: np.dtype) -> NDArray:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")
