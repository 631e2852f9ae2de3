"""The aims that the figures are held against."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Results = dict[str, dict[str, Any]]  # name of a part -> its state and its figures
COMPARISONS = {"at least": operator.ge, "at most": operator.le}
STEP, SPEED, MFU, PEAK, LOSS = "step", "speed", "MFU", "peak memory", "lowest validation loss"
SAME_ROWS = "share of rows with the same tokens"


@dataclass(frozen=True)
class Aim:
    """A value that is computed from figures, and its limit."""

    text: str
    value: Callable[["Figures"], float]
    comparison: str
    limit: float


class NotMeasuredError(Exception):
    """An aim lacks figures that it could be held against."""


class Figures:
    """The figures of all parts that have ended well, by the names of part and figure."""

    def __init__(self, results: Results) -> None:
        done = {part: row for part, row in results.items() if row["state"] == "done"}
        self.values = {
            (part, figure["name"]): figure["value"]
            for part, row in done.items()
            for figure in row["figures"]
        }
        self.calls = {part: row["call"] for part, row in done.items()}

    def __call__(self, part: str, name: str) -> Any:
        if (part, name) not in self.values:
            raise NotMeasuredError
        return self.values[part, name]

    def ratio(self, one: tuple[str, str], other: tuple[str, str]) -> float:
        return self(*one) / self(*other)


def compare_with_nanogpt(figures: Figures) -> float:
    ratio = figures.ratio(("gpt2-muon", SPEED), ("nanogpt", SPEED))
    if figures.calls["gpt2-muon"] != figures.calls["nanogpt"]:  # clocks differ from hour to hour
        raise NotMeasuredError
    return ratio


def time_translation(figures: Figures) -> float:
    if figures("translate", "pairs") == "made up":  # the limit is for those of Multi30k
        raise NotMeasuredError
    return float(figures("translate", "training"))


def find_smallest_share(figures: Figures) -> float:
    """Return the smallest share of rows with the tokens of transformers over all batches in float32."""
    batches = (("gpt2", 1), ("gpt2", 8), ("gpt2", 64), ("modern", 1), ("modern", 64))
    return min(
        figures("generate", f"{preset}, float32, batch {batch}: {SAME_ROWS}")
        for preset, batch in batches
    )


def count_differences(figures: Figures, part: str) -> int:
    files = ("model.safetensors", "optimizer.safetensors", "metrics.jsonl")
    return sum(figures(part, f"same {name} to the bit") != "yes" for name in files)


def count_failures(figures: Figures, part: str) -> int:
    if not figures(part, "passed"):  # all are skipped where pytest sees no GPU
        raise NotMeasuredError
    return int(figures(part, "failed"))


AIMS = (
    Aim(
        "124 M by default, tokens/s against nanoGPT's in the same call",
        compare_with_nanogpt,
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
    Aim("translation of --pairs, seconds of training", time_translation, "at most", 3.0),
    Aim("Shakespeare, validation loss", lambda f: f("shakespeare", LOSS), "at most", 1.4697),
    Aim("Shakespeare, tokens of training", lambda f: f("shakespeare", "tokens"), "at most", 13e6),
    Aim(
        "Shakespeare, seconds of training, with compilation if there is any",
        lambda f: f("shakespeare", "training"),
        "at most",
        12.0,
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
        "generation in float32, share of rows with the tokens of transformers, ties aside",
        find_smallest_share,
        "at least",
        1.0,
    ),
    Aim(
        "ms that a length costs more when it was not seen before",
        lambda f: f("probe", "decoder: a length not seen before costs more by"),
        "at most",
        2.0,
    ),
    Aim(
        "the same with a mask, ms",
        lambda f: f("probe", "prefix: a length not seen before costs more by"),
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
        "124 M, share of time lost to a checkpoint every 100 steps",
        lambda f: f("gpt2-checkpoints", "share of time lost to checkpoints"),
        "at most",
        0.01,
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
    Aim(
        "tests of computations that fail",
        lambda f: count_failures(f, "tests-computations"),
        "at most",
        0,
    ),
    Aim("tests of runs that fail", lambda f: count_failures(f, "tests-runs"), "at most", 0),
    Aim(
        "tests of compiled runs that fail",
        lambda f: count_failures(f, "tests-compiled-runs"),
        "at most",
        0,
    ),
)


def judge(results: Results) -> list[dict[str, Any]]:
    """Return each aim with its value and whether it is met; both are None where it was not measured."""
    figures, verdicts = Figures(results), []
    for aim in AIMS:
        verdict: dict[str, Any] = {"aim": aim.text, "limit": f"{aim.comparison} {aim.limit:,.10g}"}
        try:
            value = aim.value(figures)
        except NotMeasuredError:
            verdicts.append({**verdict, "value": None, "is_met": None})
            continue
        is_met = COMPARISONS[aim.comparison](value, aim.limit)
        verdicts.append({**verdict, "value": float(f"{value:.5g}"), "is_met": is_met})
    return verdicts
