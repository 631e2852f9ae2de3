"""The frame of every page: its style, its content security policy, and the scripts that it may execute.

A page executes only the scripts that are named here, by their hashes, and loads nothing: a text from data that got past
the escaping could still do nothing.
"""

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gptexp.pages.markup import Content, Html, json_script, render, tag

FOLDER = Path(__file__).parent
FOOTER = "written by gptexp"

Section = tuple[str, str, Content]  # id, title, content; one without content is left out


def format_page(
    title: str,
    *content: Content,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    connects: bool = False,
    footer: Content = FOOTER,
) -> str:
    """Return a page that is complete in itself.

    Args:
        content: the body. Texts are escaped; `markup.tag` builds HTML.
        styles: sources of CSS, in addition to page.css.
        scripts: sources of JavaScript, executed in this order at the end of the body.
        data: JSON values by name; a script reads one with JSON.parse(document.getElementById(NAME).textContent).
        connects: the scripts may call the server that the page comes from.
    """
    css = "\n".join([read_asset("page.css"), *styles])
    policy = _policy([css], scripts, connects)
    head = render(
        Html('<meta charset="utf-8">'),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(css)),
    )
    body = render(
        tag("main", content),
        tag("footer", footer),
        (json_script(name, values) for name, values in (data or {}).items()),
        (tag("script", Html(source)) for source in scripts),
    )
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>{body}</body>\n</html>\n'


def read_asset(name: str) -> str:
    """Return the source of a style or script of this folder, such as charts.js."""
    return (FOLDER / name).read_text("utf8")


def header(title: str, *content: Content, eyebrow: str | None = None) -> Html:
    """Return the head of a page: a line above the title, the title, and what stands below it."""
    above = tag("p", eyebrow, class_="eyebrow") if eyebrow else None
    return tag("header", above, tag("h1", title), content)


def navigation(entries: Iterable[tuple[str, str]]) -> Html:
    """Return links to the sections of a page: (id, title) of each."""
    links = (tag("a", title, href=f"#{name}") for name, title in entries)
    return tag("nav", links, aria_label="sections")


def section(name: str, title: str, *content: Content, note: str | None = None) -> Html:
    """Return a section with a heading; `name` is its id, and `note` a sentence below the heading."""
    heading = tag("h2", title, id=f"{name}-title")
    subtitle = tag("p", note, class_="note") if note else None
    return tag("section", heading, subtitle, content, id=name, aria_labelledby=f"{name}-title")


def sections(entries: Iterable[Section]) -> Html:
    """Return the sections that have content, below the links to them."""
    filled = [(name, title, content) for name, title, content in entries if content]
    links = navigation((name, title) for name, title, _ in filled)
    return render(links, (section(*entry) for entry in filled))


def command_block(command: str) -> Html:
    """Return a command line that one click selects as a whole."""
    return tag("pre", tag("code", command), class_="command", tabindex=0)


def link(file: Path, base: Path) -> str:
    """Return the address of a file from a page in the folder `base`."""
    return quote(Path(os.path.relpath(file, base)).as_posix())


def _policy(styles: Iterable[str], scripts: Iterable[str], connects: bool) -> str:
    media = "data: blob:" if connects else "data:"
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(map(_hash, scripts)) or "'none'",
        "style-src": " ".join(map(_hash, styles)),
        "img-src": media,
        "media-src": media,
        "connect-src": "'self'" if connects else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
