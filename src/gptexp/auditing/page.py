"""Write an audit as one HTML page that needs no other file."""

from html import escape

from gptexp.auditing.report import Section, Table

MAX_EXAMPLES = 100
STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #4a7db8; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; }
p, ul { margin: .3rem 0; } .note { opacity: .7; font-size: .9rem; }
code { font-size: .85rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; }
li { overflow-wrap: anywhere; font-size: .9rem; }
.bars { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .8rem; margin: .8rem 0; font-size: .85rem; }
.bar { background: var(--bar); height: 1em; display: inline-block; min-width: 1px; margin-right: .5em; }
"""


def format_page(title: str, subtitle: str, sections: list[Section]) -> str:
    """Return the sections of a report as a page."""
    body = "\n".join(_section(section) for section in sections)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{STYLE}</style>
<h1>{escape(title)}</h1><p><code>{escape(subtitle)}</code></p>
{body}
</html>
"""


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2><p>{escape(section.summary)}</p>"]
    parts += map(_table, section.tables)
    if section.bars:
        parts.append(_bars(section.bars))
    if section.examples:
        items = "".join(f"<li>{escape(text)}</li>" for text in section.examples[:MAX_EXAMPLES])
        rest = len(section.examples) - MAX_EXAMPLES
        more = f'<p class="note">and {rest:,} more: --json FILE has all</p>' if rest > 0 else ""
        label = f"{min(len(section.examples), MAX_EXAMPLES)} of {len(section.examples):,}"
        parts.append(f"<details open><summary>{label}</summary><ul>{items}</ul>{more}</details>")
    parts += (f'<p class="note">{escape(note)}</p>' for note in section.notes)
    return "\n".join(parts)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'{note}<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _cell(text: str) -> str:
    is_number = text[:1].isdigit() and not any(character.isalpha() for character in text)
    return f"<td{' class=number' if is_number else ''}>{escape(text)}</td>"


def _bars(bars: list[tuple[str, int]]) -> str:
    largest = max(count for _, count in bars) or 1
    rows = (
        f'<span>{escape(label)}</span><span><span class="bar" style="width:{70 * count / largest:.1f}%"></span>'
        f"{count:,}</span>"
        for label, count in bars
    )
    return f'<div class="bars">{"".join(rows)}</div>'
