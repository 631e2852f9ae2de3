"""Decode JSON without losing a value, and explain in plain words why a text is not JSON."""

import json
import re
from typing import Any

COMMENT = re.compile(r"//|/\*|#")
PYTHON_VALUE = re.compile(r"(True|False|None)\b")


class RepeatedKeyError(ValueError):
    """An object has a key twice, of which Python keeps the last value."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise RepeatedKeyError(f"an object has the key '{repeated}' more than once")
    return record


DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)


def explain_json_error(error: Exception, text: str) -> tuple[str, int | None]:
    """Return why a text is not JSON, and the position of the reason; None: the error has none.

    Args:
        text: the text that was decoded.
    """
    if not isinstance(error, json.JSONDecodeError):
        return str(error), None
    position = error.pos
    rest = text[position : position + 10]
    before = text[:position].rstrip()
    if error.msg.startswith("Unterminated string") or (
        error.msg.startswith("Invalid control character") and rest[:1] in ("\n", "")
    ):
        return "a text is not closed: its quotation mark at the end is missing", position
    if error.msg.startswith("Invalid control character"):
        return (
            f"inside a text, a character such as a tab is written {json.dumps(rest[0])[1:-1]}",
            position,
        )
    if error.msg.startswith("Illegal trailing comma") or (
        before.endswith(",") and rest[:1] in ("]", "}")
    ):
        comma = position if rest.startswith(",") else len(before) - 1
        return "a comma stands before the closing bracket: delete it", comma
    if COMMENT.match(rest):
        return "JSON has no comments: delete this one", position
    if rest.startswith("'"):
        return "names and texts need double quotation marks", position
    if PYTHON_VALUE.match(rest):
        return "JSON writes true, false and null, not True, False and None", position
    return error.msg, position
