"""Read the parameters of a request for text: those of OpenAI's completions and chat, and the options of Sampling."""

import sys
from dataclasses import dataclass, fields
from typing import Any

from gptexp.errors import nearest
from gptexp.sampling import RANGES, Sampling
from gptexp.serving.request_error import RequestError

# Parameters that change no answer here.
IGNORED = {
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
    *("parallel_tool_calls", "prompt_cache_retention", "tool_choice"),
}
# Parameters of OpenAI that gptexp does not have, with the values at which they change nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "suffix": ("",),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
SAMPLING_OPTIONS = {option.name: type(option.default) for option in fields(Sampling)}
COMPLETION_PARAMETERS = {
    *("model", "prompt", "max_tokens", "n", "best_of", "stop", "stream", "stream_options"),
    *("logprobs", "echo", *SAMPLING_OPTIONS),
}
CHAT_PARAMETERS = {
    *("model", "messages", "max_tokens", "max_completion_tokens", "n", "stop", "stream"),
    *("stream_options", "logprobs", "top_logprobs", "tools", *SAMPLING_OPTIONS),
}
MAX_TOP_TOKENS, MAX_STOP_STRINGS, MAX_STOP_CHARACTERS = 20, 16, 1000
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Parameters:
    """How to answer, apart from the prompt."""

    count: int  # answers to each prompt
    max_tokens: int | None
    sampling: dict[str, float]  # options of Sampling that the request sets, but the seed
    seed: int | None
    stop: tuple[str, ...]
    is_stream: bool
    includes_usage: bool  # in a stream
    top_tokens: int | None  # likeliest tokens to report at each position; None: no scores
    echoes: bool  # the answer begins with the prompt


def read_parameters(body: dict[str, Any], is_chat: bool) -> Parameters:
    """Check the parameters of a request.

    Raises:
        RequestError: one is not known, or has a value that is not accepted.
    """
    known = CHAT_PARAMETERS if is_chat else COMPLETION_PARAMETERS
    for name, value in body.items():
        if name in IGNORED or value is None:
            continue
        if name in NEUTRAL:
            if value not in NEUTRAL[name]:
                raise RequestError(
                    f"{name}: is not supported; leave it out. Options: {', '.join(sorted(known))}",
                    name,
                )
        elif name not in known:
            raise RequestError(f"{name}: there is no such parameter.{nearest(name, known)}", name)
    count = read_integer(body, "n", 1, smallest=1)
    assert count is not None
    if (best_of := read_integer(body, "best_of", None, smallest=1)) not in (None, count):
        raise RequestError(f"best_of={best_of}: must be n={count}, or left out", "best_of")
    length_name = "max_tokens"
    if is_chat and body.get("max_completion_tokens") is not None:
        length_name = "max_completion_tokens"
    options = read_object(body, "stream_options")
    return Parameters(
        count,
        read_integer(body, length_name, None, smallest=0),
        _read_sampling(body),
        read_integer(body, "seed", None, smallest=0, largest=LARGEST_SEED),
        _read_stop(body),
        read_boolean(body, "stream"),
        read_boolean(options, "include_usage"),
        _read_top_tokens(body, is_chat),
        not is_chat and read_boolean(body, "echo"),
    )


def read_integer(
    body: dict[str, Any], name: str, default: int | None, smallest: int, largest: int | None = None
) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    is_valid = type(value) is int and value >= smallest and (largest is None or value <= largest)
    if not is_valid:
        limit = f"at least {smallest}" if largest is None else f"from {smallest} to {largest}"
        raise RequestError(f"{name}={value!r:.60}: must be a whole number, {limit}", name)
    return value


def read_boolean(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise RequestError(f"{name}={value!r:.60}: must be true or false", name)
    return bool(value)


def read_object(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise RequestError(f"{name}={value!r:.60}: must be an object", name)
    return value or {}


def _read_sampling(body: dict[str, Any]) -> dict[str, float]:
    options: dict[str, float] = {}
    for name, kind in SAMPLING_OPTIONS.items():
        value = body.get(name)
        if value is None or name == "seed":
            continue
        is_valid, accepted = RANGES[name]
        is_number = type(value) in (int, float) and abs(value) <= sys.float_info.max
        if kind is int:
            accepted = f"a whole number, {accepted}"
            is_number = is_number and value == int(value)
        if not is_number or not is_valid(value):
            raise RequestError(f"{name}={value!r:.60}: must be {accepted}", name)
        options[name] = int(value) if kind is int else float(value)
    if options.get("temperature") == 0:  # these do not change which token is the most likely one
        options = {k: v for k, v in options.items() if k not in ("top_k", "top_p", "min_p")}
    return options


def _read_stop(body: dict[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    stops = value if isinstance(value, list) else [value]
    if len(stops) > MAX_STOP_STRINGS or not all(isinstance(x, str) and x for x in stops):
        raise RequestError(
            f"stop={value!r:.60}: must be a text, or a list of up to {MAX_STOP_STRINGS}, none empty",
            "stop",
        )
    if (longest := max(map(len, stops), default=0)) > MAX_STOP_CHARACTERS:
        raise RequestError(
            f"stop: a text has {longest:,} characters; at most {MAX_STOP_CHARACTERS:,}", "stop"
        )
    return tuple(stops)


def _read_top_tokens(body: dict[str, Any], is_chat: bool) -> int | None:
    """Return how many of the likeliest tokens to report; None: no scores."""
    if not is_chat:
        return read_integer(body, "logprobs", None, smallest=0, largest=MAX_TOP_TOKENS)
    top = read_integer(body, "top_logprobs", 0, smallest=0, largest=MAX_TOP_TOKENS)
    if read_boolean(body, "logprobs"):
        return top
    if top:
        raise RequestError("top_logprobs: needs logprobs=true", "top_logprobs")
    return None
