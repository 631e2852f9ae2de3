"""Print a plan."""

import shutil
import textwrap
from collections.abc import Sequence

from gptexp.planning.describe import Section


def plan_text(sections: Sequence[Section]) -> str:
    """Return the sections of a plan as lines."""
    width = max(60, min(120, shutil.get_terminal_size((120, 40)).columns))
    return "\n\n".join(_section_text(section, width) for section in sections)


def _section_text(section: Section, width: int) -> str:
    rows = [section.columns, *section.rows] if section.columns else section.rows
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [section.title]
    for row in rows:
        if section.columns:
            first, *cells = (f"{cell:>{size}}" for cell, size in zip(row, widths, strict=True))
            lines.append("  " + "  ".join([f"{first.strip():<{widths[0]}}", *cells]).rstrip())
        else:
            indent = " " * (widths[0] + 4)
            text = f"  {row[0]:<{widths[0]}}  {row[1]}"
            lines += textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)
    for note in section.notes:
        lines += textwrap.wrap(
            note,
            width,
            initial_indent="  ",
            subsequent_indent="    ",
            break_on_hyphens=False,
            break_long_words=False,
        )
    return "\n".join(lines)
