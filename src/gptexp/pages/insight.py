"""A look into the final model: a held-out text whose tokens are coloured by their loss, and the attention over it."""

import math
from typing import Any

from gptexp.pages.markup import Content, Html, render, tag
from gptexp.pages.numbers import format_number

LOSS_STEPS = (0.1, 0.5, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0)  # upper ends of the colours, in nats


def insight_html(record: dict[str, Any]) -> Html | None:
    """Return the section about one held-out sequence; None: the run has kept none."""
    sample = record.get("sample") or {}
    tokens, losses = sample.get("tokens", []), sample.get("losses", [])
    if not tokens:
        return None
    known = [loss for loss in losses if loss is not None]
    mean = sum(known) / len(known) if known else math.nan
    parts: list[Content] = [
        tag(
            "p",
            f"Loss of each token in nats: {format_number(mean)} on average. A token of likelihood one half has 0.69, "
            f"one of 1 % has 4.6.",
        ),
        tag("p", _legend(), class_="token-legend"),
        tag("p", map(_token, tokens, losses), class_="card tokens"),
    ]
    if record.get("attention"):
        parts.append(tag("div", id="attention-view", class_="card"))
    return render(parts)


def attention_json(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the attention with the texts of its tokens, for attention.js; None: the run has kept none."""
    attention = record.get("attention")
    if not attention:
        return None
    tokens = record["sample"]["tokens"]
    inputs = tokens[:-1] if record["sample"].get("predicts_next", _has_target(record)) else tokens
    return {**attention, "texts": [_visible(token) for token in inputs[-attention["tokens"] :]]}


def _has_target(record: dict[str, Any]) -> bool:
    """Return whether the last token is only predicted: where the first has no loss, each is scored one before."""
    losses = record["sample"]["losses"]
    return bool(losses) and losses[0] is None and losses[-1] is not None


def _token(text: str, loss: float | None) -> Html:
    if loss is None:
        return tag("span", _visible(text), class_="token unscored", title="no loss")
    likelihood = math.exp(-loss)
    title = f"loss {loss:.3g}, likelihood {likelihood:.2g}"
    return tag("span", _visible(text), class_=f"token {_color(loss)}", title=title)


def _color(loss: float) -> str:
    return f"loss-{sum(loss > step for step in LOSS_STEPS)}"


def _visible(text: str) -> str:
    """Return the text of a token with line ends that can be seen."""
    return text.replace("\n", "⏎\n").replace("\t", "⇥")


def _legend() -> list[Html]:
    labels = ["0", *(f"{step:g}" for step in LOSS_STEPS)]
    return [
        tag("span", label, class_=f"token loss-{number}") for number, label in enumerate(labels)
    ]
