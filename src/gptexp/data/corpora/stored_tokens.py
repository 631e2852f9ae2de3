"""Tokens that another run has encoded: there are no texts to read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptexp.config import schema
from gptexp.data.corpora.corpus import Corpus, Example
from gptexp.errors import UserError


class StoredTokens(Corpus):
    """Refuses to yield examples: a run opens the store itself."""

    def __init__(self, config: schema.TokensConfig, fields: tuple[str, ...], cache: Path) -> None:
        raise UserError(
            f"data=tokens data.path={config.path}: holds token numbers, and this command reads texts. Name the source "
            f"of the texts, data=files for example"
        )

    def __iter__(self) -> Iterator[Example]:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        raise NotImplementedError
