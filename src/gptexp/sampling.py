"""Options of generation: how an answer is chosen. Command-line flags and settings of tasks take their texts from here.

This module imports no torch; generation/next_token.py computes what the options say.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any, Self

SAMPLING_TEMPERATURE = 0.8  # of several answers, where no other is chosen
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda value: 0 <= value <= 1_000_000, "at least 0 and at most 1,000,000"),
    "top_k": (lambda value: value >= 0, "at least 0"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "min_p": (lambda value: 0 <= value <= 1, "between 0 and 1"),
    "repetition_penalty": (lambda value: 0.001 <= value <= 1000, "from 0.001 to 1,000"),
    "no_repeat_ngram": (lambda value: value >= 0, "at least 0"),
    "num_beams": (lambda value: value >= 1, "at least 1"),
    "mbr_samples": (lambda value: value >= 1, "at least 1"),
    "length_penalty": (lambda value: -10 <= value <= 10, "from -10 to 10"),
}


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
        1.0,
        "sample from the fewest most likely tokens whose probabilities sum to p (nucleus sampling)",
    )
    min_p: float = _option(
        0.0, "sample from tokens with at least p times the probability of the most likely one"
    )
    repetition_penalty: float = _option(
        1.0, "above 1 makes tokens that the answer already contains less likely"
    )
    no_repeat_ngram: int = _option(
        0, "size of the n-grams that may occur only once in an answer; 0 means no limit"
    )
    num_beams: int = _option(1, "number of beams of beam search; 1 means no beam search")
    length_penalty: float = _option(
        1.0,
        "exponent of the length in beam search: above 0 prefers long answers, below 0 short ones",
    )
    mbr_samples: int = _option(
        1,
        "number of samples from which, and from the greedy answer, minimum Bayes risk decoding selects; 1 means a "
        "single answer",
    )
    seed: int = _option(0, "seed of sampling")

    def __post_init__(self) -> None:
        errors = [
            f"{name}={getattr(self, name)}: must be {accepted}"
            for name, (is_valid, accepted) in RANGES.items()
            if not is_valid(getattr(self, name))
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
        explicit = {name: value for name, value in overrides.items() if value is not None}
        defaults: dict[str, Any] = {}  # applied where an option is not explicit

        if answers > 1 or explicit.get("num_beams", 1) > 1 or explicit.get("temperature") == 0:
            defaults["mbr_samples"] = 1
        mbr_samples = (defaults | explicit).get("mbr_samples", self.mbr_samples)
        if answers > self.num_beams or mbr_samples > 1 or explicit.get("temperature", 0) > 0:
            defaults["num_beams"] = 1
        num_beams = (defaults | explicit).get("num_beams", self.num_beams)

        if mbr_samples > 1:
            defaults["temperature"] = self.temperature or SAMPLING_TEMPERATURE
        elif num_beams > 1:
            defaults["temperature"] = 0.0
        elif answers > 1:
            defaults["temperature"] = SAMPLING_TEMPERATURE
        elif self.mbr_samples > 1:  # its temperature is that of the samples
            defaults["temperature"] = 0.0
        if num_beams == 1:
            defaults["length_penalty"] = 1.0
        return replace(self, **defaults | explicit)

    def seeds(self, count: int) -> list[int]:
        """Return a seed for each of `count` answers, derived from `seed` and the position."""
        return [(self.seed * 1_000_003 + number) % 2**63 for number in range(count)]


OPTION_TEXTS = {option.name: option.metadata["doc"] for option in fields(Sampling)}
