"""The aims that the figures are held against."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Results = dict[str, dict[str, Any]]  # name of a part -> its state and its figures
COMPARISONS = {"at least": operator.ge, "at most": operator.le}
STEP, SPEED, MFU, PEAK, LOSS = "step", "speed", "MFU", "peak memory", "lowest validation loss"


@dataclass(frozen=True)
class Aim:
    """A value that is computed from figures, and its limit."""

    text: str
    value: Callable[["Figures"], float]
    comparison: str
    limit: float


class Figures:
    """The figures of all parts, by the names of part and figure."""

    def __init__(self, results: Results) -> None:
        self.values = {
            (part, figure["name"]): figure["value"]
            for part, row in results.items()
            for figure in row["figures"]
        }

    def __call__(self, part: str, name: str) -> float:
        return self.values[part, name]

    def ratio(self, one: tuple[str, str], other: tuple[str, str]) -> float:
        return self(*one) / self(*other)


def count_differences(figures: Figures, part: str) -> int:
    files = ("model.safetensors", "optimizer.safetensors", "metrics.jsonl")
    return sum(figures(part, f"same {name} to the bit") != "yes" for name in files)


AIMS = (
    Aim(
        "124 M by default, tokens/s against nanoGPT's",
        lambda f: f.ratio(("gpt2-muon", SPEED), ("nanogpt", SPEED)),
        "at least",
        1.05,
    ),
    Aim("124 M by default, MFU", lambda f: f("gpt2-muon", MFU), "at least", 0.45),
    Aim("124 M by default, peak memory in GiB", lambda f: f("gpt2-muon", PEAK), "at most", 15.5),
    Aim("XL by default, MFU", lambda f: f("xl-gpt2-muon", MFU), "at least", 0.50),
    Aim(
        "124 M, a step with modern and Muon against gpt2 and AdamW",
        lambda f: f.ratio(("modern-muon", STEP), ("gpt2-adamw", STEP)),
        "at most",
        1.10,
    ),
    Aim(
        "124 M, a step with Muon against AdamW",
        lambda f: f.ratio(("gpt2-muon", STEP), ("gpt2-adamw", STEP)),
        "at most",
        1.10,
    ),
    Aim(
        "XL, a step with Muon against AdamW",
        lambda f: f.ratio(("xl-gpt2-muon", STEP), ("xl-gpt2-adamw", STEP)),
        "at most",
        1.10,
    ),
    Aim(
        "124 M, ms of a step of Muon", lambda f: f("probe", "124 M: a step of Muon"), "at most", 6.0
    ),
    Aim("XL, ms of a step of Muon", lambda f: f("probe", "XL: a step of Muon"), "at most", 150.0),
    Aim(
        "124 M, ms that the host launches a step of Muon for",
        lambda f: f("probe", "124 M: the host launches a step of Muon for"),
        "at most",
        2.0,
    ),
    Aim(
        "graphs that are compiled after the first validation",
        lambda f: f("translate-compiled", "graphs compiled after the first validation"),
        "at most",
        0,
    ),
    Aim("translation, seconds of training", lambda f: f("translate", "training"), "at most", 3.0),
    Aim("Shakespeare, validation loss", lambda f: f("shakespeare", LOSS), "at most", 1.4697),
    Aim(
        "Shakespeare, seconds of training", lambda f: f("shakespeare", "training"), "at most", 12.0
    ),
    Aim("Shakespeare, ms a step", lambda f: f("shakespeare", STEP), "at most", 8.0),
    Aim(
        "generation, batch 1, against transformers",
        lambda f: f("generate", "gpt2, float32, batch 1: against transformers"),
        "at least",
        5.0,
    ),
    Aim(
        "generation, batch 64, against transformers",
        lambda f: f("generate", "gpt2, float32, batch 64: against transformers"),
        "at least",
        3.0,
    ),
    Aim(
        "attention to a length not seen before, ms",
        lambda f: f("probe", "decoder: a length not seen before"),
        "at most",
        2.0,
    ),
    Aim(
        "the same with a mask, ms",
        lambda f: f("probe", "prefix: a length not seen before"),
        "at most",
        2.0,
    ),
    Aim(
        "host-device synchronisations in a micro-batch",
        lambda f: f("probe", "host-device synchronisations in a micro-batch"),
        "at most",
        0,
    ),
    Aim(
        "files that differ after a kill, of 3",
        lambda f: count_differences(f, "resume"),
        "at most",
        0,
    ),
    Aim(
        "the same with a compiled model",
        lambda f: count_differences(f, "resume-compiled"),
        "at most",
        0,
    ),
    Aim("tests that fail", lambda f: f("tests", "failed"), "at most", 0),
)


def judge(results: Results) -> list[dict[str, Any]]:
    """Return each aim whose figures are there, with its value and whether it is met."""
    figures, verdicts = Figures(results), []
    for aim in AIMS:
        try:
            value = aim.value(figures)
        except KeyError:
            continue
        verdicts.append(
            {
                "aim": aim.text,
                "value": float(f"{value:.4g}"),
                "limit": f"{aim.comparison} {aim.limit:g}",
                "is_met": COMPARISONS[aim.comparison](value, aim.limit),
            }
        )
    return verdicts
