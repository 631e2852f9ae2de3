"""Build HTML from Python: every text is escaped, because only `Html` counts as HTML."""

import json
from collections.abc import Iterable
from html import escape
from typing import Any

VOID_TAGS = {"br", "img", "input", "meta"}  # not those of SVG: HTML nests one that is not closed
# Inside of a script element, these would end it, or the statement in some parsers.
JSON_ESCAPES = {
    ord("<"): "\\u003c",
    ord(">"): "\\u003e",
    ord("&"): "\\u0026",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


class Html(str):
    """HTML source. A str that is no Html is text."""


Content = str | Iterable["Content"] | None


def render(*content: Content) -> Html:
    """Return HTML: texts are escaped, None is left out, iterables are joined."""
    parts: list[str] = []
    for item in content:
        if isinstance(item, Html):
            parts.append(item)
        elif isinstance(item, str):
            parts.append(escape(item))
        elif item is not None:
            parts.append(render(*item))
    return Html("".join(parts))


def tag(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Html:
    """Return an element. `class_` is the attribute class, and `stroke_width` is stroke-width.

    An attribute that is True has no value; one that is False or None is left out.
    """
    words = [name]
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(attribute)
        elif value is not None and value is not False:
            words.append(f'{attribute}="{escape(str(value))}"')
    start = f"<{' '.join(words)}>"
    return Html(start) if name in VOID_TAGS else Html(f"{start}{render(*content)}</{name}>")


def json_script(name: str, values: Any) -> Html:
    """Return a script element that holds JSON, for `JSON.parse` of the element with this id."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    source = Html(text.translate(JSON_ESCAPES).encode("utf8", "replace").decode())
    return tag("script", source, type="application/json", id=name)


def table(columns: Iterable[Content], rows: Iterable[Iterable[Content]], **attributes: str) -> Html:
    """Return a table that scrolls in a box of its own where it is wider than the page.

    A cell that is a number, or a number with a sign, percent or interval, is aligned to the right.
    """
    head = tag(
        "tr", (tag("th", column, scope="col") if column else tag("td") for column in columns)
    )
    body = (tag("tr", map(_cell, row)) for row in rows)
    content = tag("table", tag("thead", head), tag("tbody", body), **attributes)
    return tag("div", content, class_="scroll", tabindex=0, role="group", aria_label="table")


def pairs(rows: Iterable[tuple[str, Content]]) -> Html:
    """Return a table of two columns: names and what belongs to them."""
    body = (tag("tr", tag("th", name, scope="row"), tag("td", content)) for name, content in rows)
    return tag("table", tag("tbody", body), class_="pairs")


def _cell(content: Content) -> Html:
    text = content if isinstance(content, str) and not isinstance(content, Html) else ""
    is_number = text.lstrip("+-±−")[:1].isdigit() and not any(map(str.isalpha, text))
    return tag("td", content, class_="number" if is_number else None)
