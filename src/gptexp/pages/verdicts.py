"""Verdicts as coloured badges."""

from gptexp.comparing.terminal import verdict_text
from gptexp.pages.markup import Html, tag
from gptexp.statistics.verdict import Verdict

WORD_CLASSES = {"better": "good", "worse": "bad"}


def verdict_badge(verdict: Verdict) -> Html:
    """Return the word of a verdict with its difference and interval; its sentence comes with the mouse."""
    kind = WORD_CLASSES.get(str(verdict.word), "unsure")
    return tag("span", verdict_text(verdict), class_=f"status {kind}", title=verdict.sentence)
