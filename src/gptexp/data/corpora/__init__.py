"""Corpora, one source a file. speech/ and vision/ under tasks/ have more."""

from pathlib import Path

from gptexp.config import schema
from gptexp.config.registry import schemas
from gptexp.config.targets import build, resolve
from gptexp.data.corpora.corpus import Corpus, Example
from gptexp.errors import UserError

__all__ = ["Corpus", "Example", "open_corpus"]


def open_corpus(config: schema.DataConfig, fields: tuple[str, ...], cache: Path) -> Corpus:
    """Open the corpus that the settings name, with examples that have `fields`.

    Raises:
        UserError: the source is missing or unreadable, or does not have these fields.
    """
    corpus: type[Corpus] = resolve(config.target)
    if fields not in corpus.supported_fields:
        supported = ", or ".join(" with ".join(names) for names in corpus.supported_fields)
        raise UserError(
            f"data={config.kind} gives {supported}; this task needs {' with '.join(fields)}: "
            f"{' or '.join(_sources_with(fields)) or 'no data source has that'}"
        )
    return build(config, fields, cache)


def _sources_with(fields: tuple[str, ...]) -> list[str]:
    sources = []
    for kind, settings in schemas("data").items():
        try:
            if fields in resolve(settings.target).supported_fields:
                sources.append(f"data={kind}")
        except (ImportError, UserError):  # its packages are not installed
            continue
    return sorted(sources)
