"""Samples of a run, side by side, with their images and audio inside the page as far as a limit allows."""

import base64
import mimetypes
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from gptexp.pages import shell
from gptexp.pages.markup import Content, Html, tag
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.tables import SAMPLE_FIELDS

MEDIA_FILE = re.compile(r"samples/[\w-]+\.(?:png|jpe?g|gif|webp|wav|flac|ogg|mp3)")
MAX_FILE_BYTES = 500_000
MAX_BYTES = 6_000_000  # of all files of a page
MAX_CHARACTERS = 6_000
WIDE_CHARACTERS = 160  # a longer text gets twice the width


class MediaBudget:
    """Embeds files into a page until it holds MAX_BYTES; then it links them.

    Args:
        base: folder that the page lies in.
    """

    def __init__(self, base: Path) -> None:
        self.base, self.left = base, MAX_BYTES

    def embed(self, file: Path) -> str | None:
        """Return a file as a data: URI; None: it cannot be read, or is too large for what is left."""
        try:
            size = file.stat().st_size
            if size > min(self.left, MAX_FILE_BYTES):
                return None
            content = base64.b64encode(file.read_bytes()).decode()
        except OSError:
            return None
        self.left -= size
        return f"data:{mimetypes.guess_type(file.name)[0]};base64,{content}"


def sample_cards(runs: Mapping[str, RunFolder], budget: MediaBudget) -> list[Html]:
    """Return a card for each sample, with its input, reference and outputs beside each other.

    Several runs share a card where their samples have the same input; the label of the run stands above its output.
    """
    cards: dict[tuple[str, str], dict[str, Html]] = {}
    for label, folder in runs.items():
        for sample in folder.samples():
            texts = {str(name): str(value) for name, value in sample.items()}
            reference = texts.get("reference", "")
            is_file = MEDIA_FILE.fullmatch(reference) is not None
            key = (texts.get("input", ""), "" if is_file else reference)
            if MEDIA_FILE.fullmatch(key[0]):  # files of two runs have one name, and not one content
                key = (f"{label}/{key[0]}", key[1])
            card = cards.setdefault(key, {})
            for name in _ordered(texts):
                is_shared = name in ("input", "reference")
                title = name if len(runs) == 1 or is_shared else f"{name}, {label}"
                if title not in card:
                    is_equal = name == "output" and texts[name] == reference and not is_file
                    card[title] = _field(title, texts[name], folder, budget, is_equal)
    return [
        tag("article", fields.values(), class_="card sample", aria_label=f"sample {number}")
        for number, fields in enumerate(cards.values(), 1)
    ]


def _ordered(names: Iterable[str]) -> list[str]:
    """Return the fields of a sample: those of a text to a text in their order, then others."""
    names = list(names)
    known = [name for name in SAMPLE_FIELDS if name in names]
    return known + [name for name in names if name not in known]


def _field(title: str, text: str, folder: RunFolder, budget: MediaBudget, is_equal: bool) -> Html:
    note = tag("span", "as the reference", class_="good") if is_equal else None
    is_file = MEDIA_FILE.fullmatch(text) is not None
    content = _media(text, folder, budget, title) if is_file else _text(text)
    kind = f"field {title.split(',')[0]}" if title.split(",")[0] in SAMPLE_FIELDS else "field"
    width = " wide" if len(text) > WIDE_CHARACTERS else ""
    return tag("div", tag("h3", title, note), content, class_=kind + width)


def _text(text: str) -> Html:
    if not text.strip():
        return tag("p", "(nothing)", class_="note")
    shown = text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} ..."
    # A long text scrolls, which a keyboard can do only where it has the focus.
    return tag("p", shown, class_="text", tabindex=0 if len(text) > WIDE_CHARACTERS else None)


def _media(name: str, folder: RunFolder, budget: MediaBudget, title: str) -> Content:
    file = folder.path / name
    if not file.is_file():
        return tag("p", f"{name} (missing)", class_="note")
    source = budget.embed(file)
    if source is None:
        return tag("a", name, href=shell.link(file, budget.base))
    if source.startswith("data:image/"):
        return tag("img", src=source, alt=f"{title}: {file.name}")
    label = f"{title}: {file.name}"
    return tag("audio", controls=True, preload="metadata", src=source, aria_label=label)
