"""Print the sections of an audit."""

import shutil
import textwrap

from gptexp.auditing.report import MAX_EXAMPLES, Section, Table

MAX_ROWS = 24


def sections_text(sections: list[Section]) -> str:
    """Return the sections as lines that fit the terminal."""
    width = max(60, min(120, shutil.get_terminal_size((120, 40)).columns))
    return "\n\n".join(_section_text(section, width) for section in sections)


def _section_text(section: Section, width: int) -> str:
    lines = [f"{section.title}: {section.summary}"]
    for table in section.tables:
        lines += _table_lines(table, width)
    for example in section.examples[:MAX_EXAMPLES]:
        lines.append("  " + textwrap.shorten(example, width - 2, placeholder=" ..."))
    if len(section.examples) > MAX_EXAMPLES:
        lines.append(f"  and {len(section.examples) - MAX_EXAMPLES:,} more: --json FILE has all")
    lines += (f"  {line}" for note in section.notes for line in textwrap.wrap(note, width - 2))
    return "\n".join(lines)


def _table_lines(table: Table, width: int) -> list[str]:
    rows = [table.columns, *table.rows[:MAX_ROWS]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    lines = []
    for row in rows:
        cells = (f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True))
        line = "  " + "  ".join(cells).rstrip()
        lines.append(line if len(line) <= width else line[: width - 3] + "...")
    if len(table.rows) > MAX_ROWS:
        lines.append(f"  and {len(table.rows) - MAX_ROWS:,} more rows: --json FILE has all")
    return lines
