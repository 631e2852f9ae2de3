"""A mixture of sources: each of them is a corpus of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptexp.config import schema
from gptexp.data.corpora.corpus import Corpus, Example
from gptexp.errors import UserError


class Mixture(Corpus):
    """Refuses to yield examples: a run opens the sources one by one."""

    def __init__(self, config: schema.MixtureConfig, fields: tuple[str, ...], cache: Path) -> None:
        raise UserError(
            f"data=mixture: this command reads one source. Name one of {', '.join(config.sources)} as data=KIND"
        )

    def __iter__(self) -> Iterator[Example]:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        raise NotImplementedError
