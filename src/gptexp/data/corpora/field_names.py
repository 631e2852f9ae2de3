"""Suggest which fields of a data set are those of a task, by the names that data sets commonly have."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

MAX_NAME_WORDS = 4  # with more, it reads like a text
NUMBER = re.compile(r"-?\d+(\.\d*)?")
SEPARATOR = re.compile(r"\s*[,;\t|]\s*")
INSTRUCTION = ("instruction", "instructions")
CONTEXT = ("input", "context")  # may belong to an instruction or a question
COMMON_NAMES = {  # of a field of a task, the likelier ones first
    "source": (
        *("source", "src", "question", "prompt", "query", "instruction", "problem", "article"),
        *("document", "dialogue", "input", "inputs", "premise", "context", "text", "sentence"),
        *("content", "body"),
    ),
    "target": (
        *("target", "tgt", "answer", "answers", "output", "outputs", "completion", "response"),
        *("chosen", "summary", "highlights", "abstract", "solution", "translation", "label"),
        *("labels", "class", "category"),
    ),
    "text": ("text", "content", "body", "document", "article", "sentence", "story"),
    "terms": ("terms", "keywords", "keyphrases", "entities", "tags"),
    "caption": ("caption", "captions", "description", "label", "text"),
    "image": ("image", "img", "picture", "file_name", "filename", "file", "path"),
    "audio": ("audio", "recording", "file_name", "filename", "file", "path"),
}


@dataclass(frozen=True)
class MissingField:
    """A field of a task that no record has under its name."""

    field: str
    key: str  # the setting that names it
    name: str  # the name or the template that was looked for


def explain_header(record: dict[str, Any], fields: Iterable[str]) -> str:
    """Return what is odd about the names of a table whose first row this is, and what to do; "": nothing."""
    cells = [cell for value in record.values() for cell in SEPARATOR.split(str(value).strip())]
    usual = {name for names in COMMON_NAMES.values() for name in names}
    if set(fields) & set(cells) or sum(cell.lower() in usual for cell in cells) > 1:
        return "The names stand below the first line: delete the lines above them"
    if any(len(name.split()) > MAX_NAME_WORDS or NUMBER.fullmatch(name) for name in record):
        return (
            f"If the first line is an example, add a line with the names of the columns above it, "
            f"{' and '.join(fields)}"
        )
    return ""


def suggest_settings(missing: Iterable[MissingField], names: list[str]) -> str:
    """Return the settings that name the missing fields, as a person types them, "..." where no name fits.

    Args:
        names: the names of the record.
    """
    return " ".join(_suggest_setting(field, names) for field in missing)


def _suggest_setting(missing: MissingField, names: list[str]) -> str:
    name = ""
    if missing.name == missing.field:
        name = _template(missing.field, names) or _common_name(missing.field, names)
    if not name and (near := get_close_matches(missing.name, names, n=1)):
        name = near[0]
    setting = f"{missing.key}={name or '...'}"
    return f"'{setting}'" if "{" in setting else setting


def _template(field: str, names: list[str]) -> str:
    """Return a template for an instruction with its input, or for a text that the record has in two parts."""
    instruction, context = _find(INSTRUCTION, names), _find(CONTEXT, names)
    if field == "source" and instruction and context:
        return f"{{{instruction}}}\\n{{{context}}}"
    source, target = _common_name("source", names), _common_name("target", names)
    if field == "text" and source and target and not _common_name("text", names):
        return f"{{{source}}}\\n{{{target}}}"
    return ""


def _common_name(field: str, names: list[str]) -> str:
    return _find(COMMON_NAMES.get(field, ()), names)


def _find(wanted: Iterable[str], names: list[str]) -> str:
    """Return the first of the wanted names, in any case, that a name or its last part is; "": none."""
    by_name = {name.rsplit(".", 1)[-1].lower(): name for name in reversed(names)}
    by_name |= {name.lower(): name for name in names}
    return next((by_name[name] for name in wanted if name in by_name), "")
