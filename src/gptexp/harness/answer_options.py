"""Read generation_kwargs, the options of tasks whose answers are generated."""

from dataclasses import dataclass, field
from typing import Any

from gptexp.sampling import Sampling

DEFAULT_NEW_TOKENS = 256  # of the harness, where a task names no number
LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
SAMPLING_NAMES = ("temperature", "top_k", "top_p", "min_p")
KNOWN_OPTIONS = {"until", "do_sample", *LENGTH_NAMES, *SAMPLING_NAMES}


@dataclass
class AnswerOptions:
    stops: list[str] = field(default_factory=list)
    length: int = DEFAULT_NEW_TOKENS
    sampling: Sampling = field(default_factory=Sampling)
    unused: list[str] = field(default_factory=list)  # names that gptexp does not know


def read_options(options: dict[str, Any]) -> AnswerOptions:
    """Return the options of a task, which samples only where it says do_sample or a temperature above 0.

    Raises:
        ValueError: a value has another type than it must have, or is out of its range.
    """
    until = options.get("until") or []
    stops = [until] if isinstance(until, str) else until
    if not isinstance(stops, list) or not all(isinstance(text, str) for text in stops):
        raise ValueError(f"until={until}: must be a text or a list of texts")
    lengths = [(name, options[name]) for name in LENGTH_NAMES if options.get(name) is not None]
    for name, length in lengths:
        if not str(length).isdecimal() or int(length) < 1:
            raise ValueError(f"{name}={length}: must be a whole number, at least 1")
    values = {name: options[name] for name in SAMPLING_NAMES if options.get(name) is not None}
    for name, value in values.items():
        try:
            float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{name}={value}: must be a number") from None
    temperature = float(values.pop("temperature", 0.0))
    is_greedy = options.get("do_sample") is False or not temperature
    return AnswerOptions(
        [text for text in stops if text],
        int(lengths[0][1]) if lengths else DEFAULT_NEW_TOKENS,
        Sampling() if is_greedy else Sampling(temperature, **values),
        sorted(options.keys() - KNOWN_OPTIONS),
    )
