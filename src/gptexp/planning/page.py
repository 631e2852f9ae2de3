"""Write a plan as one HTML page."""

from collections.abc import Sequence

from gptexp.pages import shell
from gptexp.pages.markup import Html, table, tag
from gptexp.planning.describe import Section

MAX_UNBROKEN = 10  # characters of a cell in one line


def format_plan(command: str, sections: Sequence[Section]) -> str:
    """Return a plan as a page."""
    return shell.format_page(
        "Plan",
        shell.header("Plan", shell.command_block(command)),
        (
            shell.section(
                f"section-{number}",
                section.title,
                table(section.columns or ("", ""), (map(_cell, row) for row in section.rows)),
                (tag("p", note, class_="note") for note in section.notes),
            )
            for number, section in enumerate(sections, 1)
        ),
    )


def _cell(text: str) -> Html:
    """Return a cell; a number stays on one line with its unit."""
    is_short = len(text) <= MAX_UNBROKEN
    return tag("span", text.replace(" ", "\N{NO-BREAK SPACE}") if is_short else text)
