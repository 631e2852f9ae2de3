"""One source of examples a file: pydocs, cldr, files, hub, scenes, spoken, images, recordings."""

from importlib import import_module
from pathlib import Path

from gptexp.config import schema
from gptexp.data.corpora.base import Corpus, Example

__all__ = ["Corpus", "Example", "open_corpus"]


def open_corpus(config: schema.Data, fields: tuple[str, ...], cache: Path) -> Corpus:
    """The corpus that the config names, giving examples with `fields`: the class that is called as its settings are.

    Raises:
        UserError: the source is missing or unreadable, or it does not have these fields.
    """
    module = import_module(f"gptexp.data.corpora.{config.kind}")  # each brings libraries of its own
    return getattr(module, type(config).__name__)(config, fields, cache)
