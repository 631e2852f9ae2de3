"""Read records from JSON: one object a line, an array of objects, or one object with such an array in it.

A text stands for an object with the field `text`, a pair of texts for one with `source` and `target`.

The content decides, not the extension. An array and lines are read one record at a time; another object is read whole.
"""

import json
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from gptexp.data.corpora.fields import MISSING, Record, find_value
from gptexp.data.corpora.json_decoder import DECODER, explain_json_error
from gptexp.data.corpora.text_lines import read_lines
from gptexp.errors import UserError

LINE_EXTENSIONS = (".jsonl", ".ndjson", ".jl", ".jsonlines")
EXTENSIONS = (".json", *LINE_EXTENSIONS)
CHUNK_CHARACTERS = 1 << 20
MAX_SUGGESTED_NAMES = 8
CONVERSATION = (
    '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}, '
    'or {"prompt": "...", "chosen": "...", "rejected": "..."} for task=prefer'
)
MAX_SHOWN_CHARACTERS = 40  # of a value that is no record

Numbered = Iterator[tuple[int, str]]  # lines with their numbers


def read_json(
    file: Path, extension: str, encoding: str, names: Collection[str]
) -> Iterator[tuple[str, Record]]:
    """Yield the place and the values of each record.

    Args:
        extension: the extension of the content.
        names: the names of the fields that are read: an object that has one of them is a record.

    Raises:
        UserError: the file is not JSON, or holds no records; the message names the line.
    """
    lines: Numbered = enumerate(read_lines(file, encoding), 1)
    number, line = next(((n, line) for n, line in lines if line.strip()), (0, ""))
    if not line:
        return
    lines = chain([(number, line)], lines)
    is_array = line.lstrip().startswith("[")
    try:
        first = None if is_array and len(line) > CHUNK_CHARACTERS else DECODER.decode(line)
    except (ValueError, RecursionError):  # also for 5,000 digits or nested brackets
        first = None
    if first is None:
        yield from (
            _read_array(file, lines, names)
            if is_array
            else _read_objects(file, extension, lines, names)
        )
        return
    next(lines)
    rest = ((number, line) for number, line in lines if line.strip())
    second = next(rest, None)
    if second is None and isinstance(first, dict):
        yield from _records_of_object(file, extension, first, names)
    elif second is None and is_array:
        yield from _read_array(file, iter([(number, line)]), names)
    else:
        yield f"{file}, line {number}", _require_object(first, f"{file}, line {number}", names)
        yield from _read_lines_of_objects(file, chain([second] if second else [], rest), names)


def read_line_range(
    file: Path, start: int, stop: int, names: Collection[str]
) -> Iterator[tuple[str, Record]]:
    """Yield the place and the values of each record of a file of JSON lines that begins in a range of its bytes.

    Ranges that meet give every record once.

    Raises:
        UserError: a line is not JSON or no record; the message names its first byte.
    """
    with file.open("rb") as stream:
        if start:
            stream.seek(start - 1)
            stream.readline()  # its record begins before the range
        while (place := stream.tell()) < stop:
            line = stream.readline()
            where = f"{file}, byte {place}"
            try:
                text = line.decode("utf-8-sig")
                record = DECODER.decode(text) if text.strip() else None
            except UnicodeDecodeError as error:
                raise UserError(f"{where}: not utf-8 text ({error.reason})") from None
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{where}: not JSON ({explain_json_error(error, text)[0]})"
                ) from None
            if text.strip():
                yield where, _require_object(record, where, names)


def _read_lines_of_objects(
    file: Path, lines: Numbered, names: Collection[str]
) -> Iterator[tuple[str, Record]]:
    for number, line in lines:
        where = f"{file}, line {number}"
        try:
            record = DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            raise _explain_error(file, number, line, 0, error) from None
        yield where, _require_object(record, where, names)


def _read_array(
    file: Path, lines: Numbered, names: Collection[str]
) -> Iterator[tuple[str, Record]]:
    """Yield the items of an array, keeping about CHUNK_CHARACTERS of the text in memory."""
    first_line, text = next(lines)
    position, number = text.index("[") + 1, 0
    while True:
        position = _skip_blanks(text, position)
        if text.startswith("]", position):
            break
        is_separated = number == 0 or text.startswith(",", position)
        start = _skip_blanks(text, position + (number > 0))
        where = f"{file}, item {number + 1}"
        try:
            if not is_separated and position < len(text):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
            record, position = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            more = _next_chunk(lines, len(text) - position)
            if not more or isinstance(error, RecursionError):
                raise _explain_error(file, first_line, text, position, error) from None
            first_line += text.count("\n", 0, position)
            text, position = text[position:] + more, 0
            continue
        number += 1
        yield where, _require_object(record, where, names)
    rest = text[position + 1 :] + _next_chunk(lines, 0)
    if rest.strip():
        line = first_line + text.count("\n", 0, position)
        raise UserError(f"{file}, line {line}: more text follows the array, which ends here")


def _next_chunk(lines: Numbered, minimum: int) -> str:
    """Return the next lines, at least `minimum` characters; "" at the end of the file."""
    parts, length = [], 0
    for _, line in lines:
        parts.append(line)
        length += len(line)
        if length >= max(minimum, CHUNK_CHARACTERS):
            break
    return "".join(parts)


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\n\r":
        position += 1
    return position


def _read_objects(
    file: Path, extension: str, lines: Numbered, names: Collection[str]
) -> Iterator[tuple[str, Record]]:
    """Yield the objects of a file in which an object takes several lines."""
    first_line, text = next(lines)
    text += "".join(line for _, line in lines)
    position, records = _skip_blanks(text, 0), []
    line, counted = first_line, 0  # number of the line at the character `counted`
    while position < len(text):
        line, counted = line + text.count("\n", counted, position), position
        where = f"{file}, line {line}"
        try:
            record, position = DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _explain_error(file, first_line, text, position, error) from None
        records.append((where, _require_object(record, where, names)))
        position = _skip_blanks(text, position)
    if len(records) == 1:
        yield from _records_of_object(file, extension, records[0][1], names)
    else:
        yield from records


def _explain_error(
    file: Path, first_line: int, text: str, position: int, error: Exception
) -> UserError:
    """Return the error for a text that begins at `first_line` and is no JSON from a position on."""
    reason, place = explain_json_error(error, text)
    line = first_line + text.count("\n", 0, position if place is None else place)
    return UserError(f"{file}, line {line}: not JSON ({reason})")


def _records_of_object(
    file: Path, extension: str, value: Record, names: Collection[str]
) -> Iterator[tuple[str, Record]]:
    """Yield the records of a file that holds one object: its array, its columns, or the object itself.

    Raises:
        UserError: it has several arrays, or columns of different lengths.
    """
    where = f"{file}, line 1"
    if rows := _rows_of_table(value, extension, where):
        yield from ((f"{file}, item {number}", row) for number, row in enumerate(rows, 1))
        return
    arrays = [
        key
        for key, items in value.items()
        if isinstance(items, list) and items and all(isinstance(item, dict) for item in items)
    ]
    is_record = any(find_value(value, name) is not MISSING for name in names)
    if is_record or not arrays or _is_chat_record(value, arrays):
        yield where, value
        return
    if len(arrays) > 1:
        raise UserError(
            f"{where}: an object with several arrays ({', '.join(arrays)}); one is needed. Write the right one as a "
            f"file of its own; held-out ones are named with data.val_path=... and data.test_path=..."
        )
    for number, record in enumerate(value[arrays[0]], 1):
        yield f"{file}, {arrays[0]}, item {number}", record


def _rows_of_table(value: Record, extension: str, where: str) -> list[Record]:
    """Return the rows of a table as pandas writes it: by column, by row number, or as columns and data; else [].

    Raises:
        UserError: its columns have different numbers of values.
    """
    if isinstance(columns := value.get("columns"), list) and isinstance(value.get("data"), list):
        rows = value["data"]
        if all(isinstance(row, list) and len(row) == len(columns) for row in rows):
            return [dict(zip(columns, row, strict=True)) for row in rows]
    inner = list(value.values())
    if inner and all(isinstance(column, dict) and column for column in inner):
        if all(column.keys() == inner[0].keys() for column in inner) and _are_numbers(inner[0]):
            return [{name: value[name][row] for name in value} for row in inner[0]]
        return inner if _are_numbers(value) else []
    if extension in LINE_EXTENSIONS or not all(map(_is_column, inner)):
        return []
    if len({len(column) for column in inner}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in value.items())
        raise UserError(f"{where}: columns need equally many values, not {lengths}")
    return [dict(zip(value, row, strict=True)) for row in zip(*inner, strict=True)]


def _is_column(value: Any) -> bool:
    """Return whether a value is a list of texts or numbers, at least two."""
    return (
        isinstance(value, list)
        and len(value) > 1
        and not any(isinstance(item, dict | list) for item in value)
    )


def _are_numbers(keys: Record) -> bool:
    return all(key.isdecimal() for key in keys)


def _is_chat_record(value: Record, arrays: list[str]) -> bool:
    return len(arrays) == 1 and value[arrays[0]][0].keys() & {"role", "from"} != set()


def _require_object(value: Any, where: str, names: Collection[str]) -> Record:
    """Return a record; a text and a pair of texts are records, too."""
    match value:
        case dict():
            return value
        case str():
            return {"text": value}
        case [str() as source, str() as target]:
            return {"source": source, "target": target}
    row = json.dumps(dict.fromkeys(names or ["text"], "..."))
    if len(names) > MAX_SUGGESTED_NAMES:  # those that conversations may have
        row = CONVERSATION
    text = json.dumps(value)
    shortened = text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."
    raise UserError(f"{where}: a JSON object is needed, not {shortened}. Write {row}")
