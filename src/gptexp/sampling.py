"""Options of generation: how an answer is chosen. Command-line flags and settings of tasks take their texts from here.

This module imports no torch; generation/next_token.py computes what the options say.
"""

import math
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any, Self


def _option(default: float, text: str) -> Any:
    return field(default=default, metadata={"doc": text})


@dataclass(frozen=True)
class Sampling:
    """How an answer is chosen: greedily unless an option says otherwise.

    temperature above 0 samples, mbr_samples above 1 samples several answers and selects one (minimum Bayes risk), and
    num_beams above 1 searches (beam search).

    Raises:
        ValueError: a value is out of its range, or has no effect in combination with the others.
    """

    temperature: float = _option(
        0.0, "divides the logits before sampling; 0 takes the most likely token (greedy decoding)"
    )
    _: KW_ONLY
    top_k: int = _option(0, "sample from the k most likely tokens; 0 means from all")
    top_p: float = _option(
        1.0, "sample from the most likely tokens whose probabilities sum to p (nucleus sampling)"
    )
    min_p: float = _option(
        0.0, "sample from tokens with at least p times the probability of the most likely one"
    )
    repetition_penalty: float = _option(
        1.0, "above 1 makes tokens less likely that the answer already contains"
    )
    no_repeat_ngram: int = _option(
        0, "size of the n-grams that may occur only once in an answer; 0 means no limit"
    )
    num_beams: int = _option(1, "number of beams of beam search; 1 means no search")
    length_penalty: float = _option(
        1.0,
        "exponent of the length in beam search: above 0 prefers long answers, below 0 short ones",
    )
    mbr_samples: int = _option(
        1, "number of samples from which minimum Bayes risk decoding selects; 1 means no selection"
    )
    seed: int = _option(0, "seed of sampling")

    def __post_init__(self) -> None:
        ranges = {
            "temperature": (self.temperature >= 0, "at least 0"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (0 <= self.min_p <= 1, "between 0 and 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "above 0"),
            "no_repeat_ngram": (self.no_repeat_ngram >= 0, "at least 0"),
            "num_beams": (self.num_beams >= 1, "at least 1"),
            "mbr_samples": (self.mbr_samples >= 1, "at least 1"),
            "length_penalty": (math.isfinite(self.length_penalty), "a finite number"),
        }
        errors = [
            f"{name}={getattr(self, name)}: must be {accepted}"
            for name, (is_valid, accepted) in ranges.items()
            if not is_valid
        ]
        if self.num_beams > 1 and self.mbr_samples > 1:
            errors.append(
                f"num_beams={self.num_beams} searches, mbr_samples={self.mbr_samples} samples: "
                f"one of them must be 1"
            )
        elif self.temperature > 0 and self.num_beams > 1:
            errors.append(
                f"num_beams={self.num_beams}: beam search does not sample, so temperature must be 0"
            )
        elif self.temperature == 0 and self.mbr_samples > 1:
            errors.append(
                f"mbr_samples={self.mbr_samples}: the samples must differ, so temperature must be above 0"
            )
        if self.temperature == 0 and (self.top_k, self.top_p, self.min_p) != (0, 1, 0):
            errors.append(
                "top_k, top_p and min_p restrict sampling, so temperature must be above 0"
            )
        if self.length_penalty != 1 and self.num_beams == 1:
            errors.append(
                f"length_penalty={self.length_penalty}: compares beams, so num_beams must be above 1"
            )
        if errors:
            raise ValueError("; ".join(errors))

    def with_overrides(self, answers: int = 1, **overrides: Any) -> Self:
        """Return a copy for `answers` answers to a prompt, with every override applied that is not None.

        Several answers are sampled (at temperature 0.8), or are the best ones of a beam search. Options that conflict
        with an override or with the number of answers fall back to their defaults: num_beams where sampling is
        requested; mbr_samples where beams, greedy decoding or several answers are.

        Raises:
            ValueError: a value is out of its range. TypeError: there is no such option.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        other_way = answers > 1 or given.get("num_beams", 1) > 1 or given.get("temperature") == 0
        mbr_samples = given.get("mbr_samples", 1 if other_way else self.mbr_samples)
        if mbr_samples == 1 < self.mbr_samples:
            return replace(self, temperature=0.0, mbr_samples=1).with_overrides(answers, **given)
        if mbr_samples > 1:
            given.setdefault("temperature", self.temperature or 0.8)
        num_beams = given.get("num_beams", self.num_beams if answers <= self.num_beams else 1)
        if "temperature" not in given and (num_beams > 1 or answers > 1):
            given["temperature"] = 0.0 if num_beams > 1 else 0.8
        if "num_beams" not in given and (
            given.get("temperature", self.temperature) > 0 or answers > self.num_beams
        ):
            given["num_beams"] = num_beams = 1
        if num_beams == 1:
            given.setdefault("length_penalty", 1.0)
        return replace(self, **given)

    def seeds(self, count: int) -> list[int]:
        """Return a seed for each of `count` answers, derived from `seed` and the position."""
        return [(self.seed * 1_000_003 + number) % 2**63 for number in range(count)]


OPTION_TEXTS = {option.name: option.metadata["doc"] for option in fields(Sampling)}
