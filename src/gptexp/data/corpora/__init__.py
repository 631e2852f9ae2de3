"""Corpora, one source a file. speech/ and vision/ under tasks/ have more."""

from pathlib import Path

from gptexp.config import schema
from gptexp.config.registry import schemas
from gptexp.config.targets import build, import_target
from gptexp.data.corpora.corpus import Corpus, Example
from gptexp.errors import UserError

__all__ = ["Corpus", "Example", "open_corpus"]


def open_corpus(
    config: schema.DataConfig, fields: tuple[str, ...], cache: Path, medium: str = ""
) -> Corpus:
    """Open the corpus that the settings name.

    Args:
        fields: text fields that each example must have.
        medium: "image" or "audio", where examples must have that as well.

    Raises:
        UserError: the source is missing or unreadable, or does not have these fields.
    """
    corpus: type[Corpus] = import_target(config.target)
    if not _has_fields(corpus, fields, medium):
        supported = (_describe(names, corpus.medium) for names in corpus.supported_fields)
        raise UserError(
            f"data={config.kind} gives {', or '.join(supported) or corpus.medium or 'texts'}; "
            f"this task needs {_describe(fields, medium)}. Use "
            f"{' or '.join(_sources_with(fields, medium)) or 'a data source of your own'}"
        )
    if isinstance(config, schema.RecordsConfig):
        config = config.with_template(fields)
    return build(config, fields, cache)


def _describe(fields: tuple[str, ...], medium: str) -> str:
    return " with ".join((medium, *fields) if medium else fields)


def _has_fields(corpus: type[Corpus], fields: tuple[str, ...], medium: str) -> bool:
    return corpus.medium == medium and (
        not corpus.supported_fields or fields in corpus.supported_fields
    )


def _sources_with(fields: tuple[str, ...], medium: str) -> list[str]:
    sources = []
    for kind, settings in schemas("data").items():
        try:
            if kind not in ("tokens", "mixture") and _has_fields(
                import_target(settings.target), fields, medium
            ):
                sources.append(f"data={kind}")
        except (ImportError, UserError):  # its packages are not installed
            continue
    return sorted(sources)
