"""Read the items of a benchmark that the training data should not contain: a file or a folder of any known layout."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptexp.auditing.contamination import MIN_SHORT_WORDS, NGRAM_WORDS
from gptexp.auditing.words import split_words
from gptexp.config import schema
from gptexp.data.corpora.records import (
    TEXT_EXTENSIONS,
    find_readable_files,
    known_extension,
    read_records,
)
from gptexp.data.corpora.text_lines import read_lines
from gptexp.errors import UserError


def read_items(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each item that can be looked for.

    An item is a text of NGRAM_WORDS or more in a record, at any depth; or else the longest one, of MIN_SHORT_WORDS or
    more. In a text file, each line is a record.

    Raises:
        UserError: a file is missing or unreadable, or there is no item.
    """
    is_empty = True
    files, _ = find_readable_files(str(path), "--benchmark")
    for file in files:
        for where, texts in _records(file):
            lengths = {text: len(split_words(text)) for text in texts}
            items = [text for text, length in lengths.items() if length >= NGRAM_WORDS]
            if not items and lengths:
                longest = max(lengths, key=lambda text: lengths[text])
                items = [longest] if lengths[longest] >= MIN_SHORT_WORDS else []
            for item in items:
                is_empty = False
                yield where, item
    if is_empty:
        raise UserError(
            f"--benchmark {path}: has no text of {MIN_SHORT_WORDS} words or more to look for"
        )


def _records(file: Path) -> Iterator[tuple[str, list[str]]]:
    settings = schema.TableConfig()
    if (extension := known_extension(file)) in TEXT_EXTENSIONS:
        for number, line in enumerate(read_lines(file, settings.encoding), 1):
            yield f"{file}, line {number}", [line]
    else:
        for where, record in read_records(file, extension, settings):
            yield where, list(_texts(record))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
