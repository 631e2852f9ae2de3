"""Hydra's grammar of the words KEY=VALUE: parse those that fit it, and quote texts that do not."""

import re
from collections.abc import Iterable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from gptexp.config.keys import dictionary_of

WORD = re.compile(r"(?P<prefix>\+{0,2})(?P<key>[^=]*)=(?P<value>.*)", re.S)


def parse_override(word: str) -> Override | None:
    """Parse a word; None where it does not fit the grammar."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def parse_overrides(words: Iterable[str]) -> list[Override]:
    """Parse the words that fit the grammar: those of a sweep file may be others."""
    return [override for word in words if (override := parse_override(word))]


def quote(value: Any) -> str:
    """Quote a value so that Hydra takes each of its characters as it is."""
    return quote_text(str(value)).replace("${", "\\${")


def quote_text(text: str) -> str:
    """Quote a text, in which Hydra still resolves ${...}. Backslashes are doubled only before a quote or the end."""
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"


def find_override(words: list[str], key: str) -> str | None:
    """Return the last word that sets a key, which is the one that counts."""
    for word in reversed(words):
        if (match := WORD.fullmatch(word)) and match["key"] == key:
            return word
    return None


def as_typed(word: str) -> str:
    """Return a word without the `++` that entries of dictionaries get, and without Hydra's backslashes."""
    if dictionary_of(word[2:].split("=")[0]):
        word = word.removeprefix("++")
    key, equals, value = word.partition("=")
    if value[:1] not in ("'", '"'):
        value = re.sub(r"\\([\\(){}\[\]:=, ])", r"\1", value)
    return f"{key}{equals}{value}"
