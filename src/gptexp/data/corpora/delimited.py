"""Read records from tables of text: CSV, TSV, and others with any separator and quoting.

Both are detected in the first lines unless data.separator and data.quoting are set. The first line names the columns.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from gptexp.config.schema.data import SEPARATORS as NAMED_SEPARATORS
from gptexp.data.corpora.fields import Record
from gptexp.data.corpora.text_lines import read_lines
from gptexp.errors import UserError
from gptexp.wording import format_count

EXTENSIONS = (".csv", ".tsv", ".tab", ".psv")
# Those that are tried, and their names.
SEPARATORS = {sign: name for name, sign in NAMED_SEPARATORS.items() if name != "\\t"}
FIRST_SEPARATOR = {".tsv": "\t", ".tab": "\t", ".psv": "|"}  # tried before the others
QUOTINGS: dict[str, dict[str, Any]] = {
    "double": {"quotechar": '"'},  # "" stands for a quotation mark inside
    "backslash": {"quotechar": '"', "doublequote": False, "escapechar": "\\"},
    "none": {"quoting": csv.QUOTE_NONE},
    "single": {"quotechar": "'"},
}
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')  # Excel's first line
QUOTED_SEPARATORS = (
    ",;"  # all programs that write tables with these put quotation marks around texts
)
NO_SEPARATOR = "\x1f"  # of a single column, whose texts may have any other character
NUM_SAMPLE_LINES = 200  # in which separator and quoting are detected

csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Dialect:
    """How the values of a line are separated and quoted."""

    separator: str
    quoting: str

    def __str__(self) -> str:
        if self.separator == NO_SEPARATOR:
            return f"a single column and data.quoting={self.quoting}"
        separator = SEPARATORS.get(self.separator, self.separator)
        return f"data.separator={separator} data.quoting={self.quoting}"

    def reader(self, lines: Iterable[str]) -> Any:
        """Return a csv.reader of these lines, which raises csv.Error."""
        options = QUOTINGS[self.quoting]
        return csv.reader(
            lines, delimiter=self.separator, strict=True, skipinitialspace=True, **options
        )


def read_delimited(
    file: Path, extension: str, encoding: str, separator: str | None, quoting: str | None
) -> Iterator[tuple[str, Record]]:
    """Yield the place and the values of each row.

    Args:
        extension: the extension of the content.
        separator: None: detected.
        quoting: one of QUOTINGS; None: detected.

    Raises:
        UserError: a row has another number of values than the first line has names; the message names the line.
    """
    lines = read_lines(file, encoding)
    first_line, num_skipped = next(lines, ""), 0
    if match := SEPARATOR_LINE.fullmatch(first_line):
        separator, num_skipped = separator or match[1], 1
    else:
        lines = chain([first_line], lines)
    sample = list(islice(lines, NUM_SAMPLE_LINES))
    dialect = find_dialect(sample, extension, separator, quoting)
    reader = dialect.reader(chain(sample, lines))
    num_read = num_skipped  # lines of the complete rows
    try:
        names = [name.strip() for name in next(filter(None, reader), [])]
        if repeated := [name for name in names if name and names.count(name) > 1]:
            raise UserError(
                f"{file}, line {reader.line_num + num_skipped}: names the column '{repeated[0]}' more than once. "
                f"Rename one of them"
            )
        num_read = reader.line_num + num_skipped
        for row in reader:
            num_read = reader.line_num + num_skipped
            where = f"{file}, line {reader.line_num + num_skipped}"
            if not row or (len(names) > 1 and not "".join(row).strip(" ")):
                continue  # a blank line
            if len(row) != len(names):
                raise UserError(
                    f"{where}: the first line names {format_count(len(names), 'column')}, this row has {len(row)} "
                    f"(read with {dialect}, which you can set). A value with the separator in it needs quotation marks"
                )
            yield where, dict(zip(names, row, strict=True))
    except csv.Error as error:
        is_open = "unexpected end" in str(error)
        problem = "a text begins with a quotation mark that is not closed" if is_open else error
        raise UserError(
            f"{file}, line {num_read + 1}: not CSV ({problem}), read with {dialect}. Set "
            f"data.quoting=none where quotation marks are part of the text; choices: {', '.join(QUOTINGS)}"
        ) from None


def find_dialect(
    sample: list[str], extension: str, separator: str | None, quoting: str | None
) -> Dialect:
    """Return the first dialect in which all rows of the sample have as many values as the header, two or more.

    Where there is none, return one in which the header has several names, or that of a single column.
    """
    separators = [separator] if separator else list(SEPARATORS)
    separators.sort(key=lambda character: character != FIRST_SEPARATOR.get(extension))
    usable = {
        "double": True,
        "backslash": any('\\"' in line for line in sample),
        "none": True,
        "single": any(line.startswith("'") for line in sample),
    }
    quotings = [name for name in QUOTINGS if usable[name]]
    dialects = [
        Dialect(character, name)
        for name in ([quoting] if quoting else quotings)
        for character in separators
        if name != "none" or name == quoting or character not in QUOTED_SEPARATORS
    ]
    single = [
        Dialect(separator or NO_SEPARATOR, name)
        for name in ([quoting] if quoting else ("double", "none"))
    ]
    return next(
        chain(
            (dialect for dialect in dialects if _count_columns(dialect, sample) > 1),
            (dialect for dialect in dialects if _count_columns(dialect, sample[:1]) > 1),
            (dialect for dialect in single if _count_columns(dialect, sample) == 1),
            single,
        )
    )


def _count_columns(dialect: Dialect, sample: list[str]) -> int:
    """Return how many values each row of the sample has; 0: not all the same. The last row may be cut off."""
    lengths: set[int] = set()
    reader = dialect.reader(sample)
    try:
        lengths.update(len(row) for row in reader if row)
    except csv.Error:
        if reader.line_num < NUM_SAMPLE_LINES:
            return 0
    return lengths.pop() if len(lengths) == 1 else 0
