"""Write a plan as one HTML page."""

from collections.abc import Sequence

from gptexp.pages import shell
from gptexp.pages.markup import table, tag
from gptexp.planning.describe import Section


def format_plan(command: str, sections: Sequence[Section]) -> str:
    """Return a plan as a page."""
    return shell.format_page(
        "Plan",
        shell.header("Plan", shell.command_block(command)),
        (
            shell.section(
                f"section-{number}",
                section.title,
                table(section.columns or ("", ""), section.rows),
                (tag("p", note, class_="note") for note in section.notes),
            )
            for number, section in enumerate(sections, 1)
        ),
    )
