"""One source of examples a file: pydocs, cldr, files, hub, scenes, spoken, images, recordings."""

from pathlib import Path

from gptexp.config import schema
from gptexp.config.targets import resolve
from gptexp.data.corpora.corpus import SUGGESTED_SOURCES, Corpus, Example
from gptexp.errors import UserError

__all__ = ["Corpus", "Example", "open_corpus"]


def open_corpus(config: schema.DataConfig, fields: tuple[str, ...], cache: Path) -> Corpus:
    """The corpus that the config names, giving examples with `fields`: the class that is called as its settings are.

    Raises:
        UserError: the source is missing or unreadable, or it does not have these fields.
    """
    corpus: type[Corpus] = resolve(config.target)
    if fields not in corpus.supported_fields:
        given = ", or ".join(" with ".join(names) for names in corpus.supported_fields)
        where = f": {SUGGESTED_SOURCES[fields]}" if fields in SUGGESTED_SOURCES else ""
        raise UserError(
            f"data={config.kind} gives {given}; this task needs {' with '.join(fields)}{where}"
        )
    return corpus(config, fields, cache)  # type: ignore[call-arg]
