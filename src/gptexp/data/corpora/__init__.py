"""One source of examples a file: pydocs, cldr, files, hub, scenes, spoken, images, recordings."""

from importlib import import_module
from pathlib import Path

from gptexp.config import schema
from gptexp.config.errors import UserError
from gptexp.data.corpora.base import ELSEWHERE, Corpus, Example

__all__ = ["Corpus", "Example", "open_corpus"]


def open_corpus(config: schema.Data, fields: tuple[str, ...], cache: Path) -> Corpus:
    """The corpus that the config names, giving examples with `fields`: the class that is called as its settings are.

    Raises:
        UserError: the source is missing or unreadable, or it does not have these fields.
    """
    module = import_module(f"gptexp.data.corpora.{config.kind}")  # each brings libraries of its own
    corpus: type[Corpus] = getattr(module, type(config).__name__)
    if fields not in corpus.gives:
        given = ", or ".join(" with ".join(names) for names in corpus.gives)
        where = f": {ELSEWHERE[fields]}" if fields in ELSEWHERE else ""
        raise UserError(f"data={config.kind} gives {given}; this task needs {' with '.join(fields)}{where}")
    return corpus(config, fields, cache)  # type: ignore[call-arg]
