"""Read the fields of a task from records: nested names, templates, and one spelling of each value in every format.

A name is that of a field, or a path through nested ones: `translation.en`, `messages.0.content` (-1 is the last item).
A template such as "{instruction}\\n{input}" joins several; a line of it whose fields are all empty is left out.
"""

import math
import re
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from gptexp.data.corpora.chats import explain_chat
from gptexp.data.corpora.corpus import Example
from gptexp.data.corpora.field_names import MissingField, explain_header, suggest_settings
from gptexp.errors import UserError, nearest
from gptexp.wording import shorten

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
MAX_RECORDS_WITHOUT_FIELD = 1000  # a field that none of the first records has is refused
MAX_EXACT_FLOAT = 2.0**53  # whole numbers below it are written without an exponent
MAX_LISTED_NAMES = 30
OPTIONAL_FIELDS = ("answer",)  # of a task, that a record may lack
MISSING = object()

Record = dict[str, Any]


class FieldReader:
    """Makes examples of the records of one pass over a source.

    A record without one of the fields is left out, but one of the first MAX_RECORDS_WITHOUT_FIELD must have it:
    otherwise the name is wrong. One of OPTIONAL_FIELDS is empty where a record has none.

    Args:
        fields: the fields of the task.
        names: the name or the template of a field in the source, where it is another.
        template: data.template, which is among the names; None: it is not set.
    """

    def __init__(
        self, fields: tuple[str, ...], names: dict[str, str], template: str | None = None
    ) -> None:
        self.template = template
        self.names = {field: names.get(field, field) for field in fields}
        self.source_names = [
            name for template in self.names.values() for name in _names_in(template)
        ]
        self.unseen = {  # names that no record has had
            name
            for field, template in self.names.items()
            if field not in OPTIONAL_FIELDS
            for name in _names_in(template)
        }
        self.num_records = 0
        self.first: tuple[str, Record] | None = None
        self._notes: list[str] = []  # of the record that is read

    def example(self, record: Record, where: str, split: str | None = None) -> Example:
        """Return the example of a record.

        Raises:
            UserError: a field holds something else than a text, a number or a list of texts, or no record has it.
        """
        if self.first is None:
            self.first = where, record
        self.num_records += 1
        self._notes = []
        texts, left_out = {}, ""
        for field, name in self.names.items():
            value = find_value(record, name)
            if value is not MISSING:
                self.unseen.difference_update(_names_in(name))
                text = self._text(value, field, name, where)
            elif _is_template(name):
                text = self._fill_template(record, field, name, where)
            else:
                text = ""
                if field not in OPTIONAL_FIELDS:
                    left_out = f"no field '{name}'"
            is_blank = not (text or "").strip()
            if "text" in self.names:  # an empty text is an empty document, and a voice may be empty
                is_blank = text is None and field == "text"
            if is_blank and not left_out:
                left_out = f"the field '{field if _is_template(name) else name}' is empty"
            texts[field] = (text or "").encode("utf8", "replace").decode()
            if texts[field] != (text or ""):
                self._notes.append(
                    f"half of a surrogate pair in the field '{field}' is read as '?'"
                )
        if self.unseen and self.num_records == MAX_RECORDS_WITHOUT_FIELD:
            self.check_names()
        return Example(
            texts, split, left_out=left_out, where=where, notes=tuple(dict.fromkeys(self._notes))
        )

    def check_names(self) -> None:
        """Check after the last record that the names of all fields were found.

        Raises:
            UserError: no record has one of them.
        """
        if self.first is None or not self.unseen:
            return
        where, record = self.first
        known = nested_names(record)
        missing = [
            MissingField(field, self._setting_of(field), name)
            for field, name in self.names.items()
            if self.unseen.intersection(_names_in(name))
        ]
        unseen = [name for name in dict.fromkeys(self.source_names) if name in self.unseen]
        names = ", no field ".join(f"'{name}'" for name in unseen)
        hints = (nearest(name, known) for name in unseen if name not in self.names)
        guess = next(filter(None, hints), "")
        if advice := explain_chat(record, tuple(self.names)):
            pass
        elif known == ["text"]:
            needed = " and ".join(self.names)
            advice = f". A text alone is no example: this task needs {needed}"
        elif advice := explain_header(record, tuple(self.names)):
            advice = f". {advice}"
        else:
            advice = f". Name the right one with {suggest_settings(missing, known)}"
        raise UserError(f"{where}: no field {names}.{guess} It has: {_list_names(known)}{advice}")

    def _setting_of(self, field: str) -> str:
        """Return the key of the setting that names a field."""
        return "data.template" if self.names[field] == self.template else f"data.fields.{field}"

    def _text(self, value: Any, field: str, name: str, where: str) -> str | None:
        """Return the text of a value; None where it is blank.

        The items of a list are joined for a source or terms; the first one is taken for a target or a caption.
        """
        if type(value) is str:
            return value
        try:
            if not isinstance(value, list | tuple | np.ndarray):
                return text_of_scalar(value)
            texts = [text for item in value if (text := text_of_scalar(item)) is not None]
            is_token_numbers = field == "text" and all(isinstance(item, int) for item in value)
            if texts and not is_token_numbers:
                if field not in ("target", "caption"):
                    return ("; " if field == "terms" else " ").join(texts)
                if len(texts) > 1:
                    self._notes.append(f"of the list in '{name}', only the first text is used")
                return texts[0]
            if not texts:
                return None
        except TypeError:
            pass
        inner = [path for path in nested_names({name: value}) if path != name]
        hint = f". It has: {_list_names(inner)}" if inner else ""
        raise UserError(
            f"{where}: field '{name}' holds {shorten(value)}; text or a list of texts is needed{hint}"
            f"{explain_chat({name: value}, tuple(self.names))}"
        )

    def _fill_template(self, record: Record, field: str, template: str, where: str) -> str | None:
        """Return the text of a template without the lines whose fields are empty; None where all are."""
        lines, has_text = [], False
        for line in template.split("\n"):
            texts = {}
            for name in PLACEHOLDER.findall(line):
                value = find_value(record, name)
                if value is not MISSING:
                    self.unseen.discard(name)
                    texts[name] = self._text(value, field, name, where) or ""
            is_filled = any(texts.values())
            has_text |= is_filled
            if is_filled or not _is_template(line):
                lines.append(_fill(line, texts))
        return "\n".join(lines) if has_text else None


def check_field_names(names: dict[str, str], allowed: tuple[str, ...]) -> None:
    """Check the keys of data.fields.

    Raises:
        UserError: a key is not a field that this task and this source have.
    """
    if unknown := sorted(set(names) - set(allowed)):
        raise UserError(
            f"data.fields.{unknown[0]}: this task has no such field.{nearest(unknown[0], allowed)} It has: "
            f"{', '.join(allowed)}"
        )


def find_value(record: Any, path: str) -> Any:
    """Return the value at a dotted path of a record, or MISSING. A key that has dots itself comes first."""
    if isinstance(record, dict):
        if path in record:
            return record[path]
        for dot in re.finditer(r"\.", path):
            key = path[: dot.start()]
            value = find_value(record[key], path[dot.end() :]) if key in record else MISSING
            if value is not MISSING:
                return value
    if isinstance(record, list | tuple):
        key, _, rest = path.partition(".")
        if re.fullmatch(r"-?\d+", key) and -len(record) <= int(key) < len(record):
            return find_value(record[int(key)], rest) if rest else record[int(key)]
    return MISSING


def nested_names(record: Record) -> list[str]:
    """Return the paths of all values of a record that can be named; in a list of records, those in the first."""
    names = []
    for key, value in record.items():
        if isinstance(value, list | tuple) and value and isinstance(value[0], dict | list | tuple):
            value = {"0": value[0]}
            if isinstance(value["0"], list | tuple):
                value = {"0": {str(number): item for number, item in enumerate(value["0"][:3])}}
        inner = nested_names(value) if isinstance(value, dict) else []
        names += [f"{key}.{name}" for name in inner] or [str(key)]
    return names


def text_of_scalar(value: Any) -> str | None:
    """Return a text, a number, a truth value or a time as text; None where it is blank: null, NaN or no time.

    A number has its shortest spelling in its own width: 3 for 3.0, and 0.1 for a 32-bit 0.1. A decimal keeps its scale.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, np.generic):
        value = float(str(value)) if isinstance(value, np.floating) else value.item()
    match value:
        case str():
            return value
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            if math.isnan(value):
                return None
            is_whole = value.is_integer() and abs(value) < MAX_EXACT_FLOAT
            return str(int(value)) if is_whole else repr(value)
        case Decimal():
            return None if value.is_nan() else f"{value:f}"  # with the digits of its column: 10.00
        case date() | time() | timedelta() | UUID():
            return None if value != value else str(value)  # NaT is not equal to itself
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise TypeError from None
    if type(value).__name__ == "NAType":  # of pandas
        return None
    raise TypeError


def _names_in(template: str) -> list[str]:
    return PLACEHOLDER.findall(template) or [template]


def _is_template(name: str) -> bool:
    return PLACEHOLDER.search(name) is not None


def _fill(line: str, texts: dict[str, str]) -> str:
    return PLACEHOLDER.sub(lambda match: texts.get(match[1], ""), line)


def _list_names(names: list[str]) -> str:
    names = [name for name in names if name.strip()]
    more = [f"... ({len(names)} in all)"] if len(names) > MAX_LISTED_NAMES else []
    return ", ".join(names[:MAX_LISTED_NAMES] + more) or "nothing"
