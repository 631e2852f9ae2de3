"""Write an audit as one HTML page that needs no other file."""

from gptexp.auditing.report import Section, Table
from gptexp.pages import shell
from gptexp.pages.markup import Content, Html, table, tag

MAX_EXAMPLES = 100
STYLE = """
.bars { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .8rem; margin: .8rem 0; font-size: .85rem; }
.bars svg { width: 70%; height: 1em; margin-right: .5em; vertical-align: -.12em; fill: var(--series-1); }
"""


def format_page(title: str, subtitle: str, sections: list[Section]) -> str:
    """Return the sections of a report as a page."""
    names = [f"section-{number}" for number in range(1, len(sections) + 1)]
    navigation = shell.navigation(
        (name, section.title) for name, section in zip(names, sections, strict=True)
    )
    return shell.format_page(
        title,
        shell.header(title, tag("p", tag("code", subtitle))),
        navigation,
        map(_section, names, sections),
        styles=[STYLE],
    )


def _section(name: str, section: Section) -> Html:
    parts: list[Content] = [tag("p", section.summary)]
    parts += map(_table, section.tables)
    if section.bars:
        parts.append(_bars(section.bars))
    if section.examples:
        shown = section.examples[:MAX_EXAMPLES]
        rest = len(section.examples) - len(shown)
        more = f"and {rest:,} more: --json FILE has all"
        label = f"{len(shown)} of {len(section.examples):,}"
        items = tag("ul", (tag("li", text) for text in shown))
        note = tag("p", more, class_="note") if rest else None
        parts.append(tag("details", tag("summary", label), items, note, open=True))
    parts += (tag("p", note, class_="note") for note in section.notes)
    return shell.section(name, section.title, *parts)


def _table(source: Table) -> Content:
    note = tag("p", source.note, class_="note") if source.note else None
    return note, table(source.columns, source.rows)


def _bars(bars: list[tuple[str, int]]) -> Html:
    largest = max(count for _, count in bars) or 1
    rows = (
        (tag("span", label), tag("span", _bar(count / largest), f"{count:,}"))
        for label, count in bars
    )
    return tag("div", rows, class_="bars")


def _bar(share: float) -> Html:
    return tag("svg", tag("rect", width=f"{100 * share:.1f}%", height="100%"), aria_hidden="true")
