"""Generation: token by token with a key/value cache, in batches.

sampling.py says how a token is chosen, reading.py holds the batch, beams.py searches, consensus.py compares, fast.py
makes it fast on a CPU.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.generation.beam_search import beam_search
from gptexp.generation.cpu.decoder import CpuDecoder
from gptexp.generation.decode_state import DecodeState, deduplicate_prompts, picked
from gptexp.generation.mbr import minimum_bayes_risk
from gptexp.generation.sampling import Sampling, apply_repetition_penalties, choose
from gptexp.model.transformer import Transformer

__all__ = ["CpuDecoder", "Sampling", "generate", "stream"]

GREEDY = Sampling()
ROWS, TOKENS = (
    128,
    32_768,
)  # candidates that are drawn at a time, at most, and what they are long together


def generate(
    model: Transformer,
    prompts: list[list[int]],
    max_new_tokens: int,
    stop: int,
    sampling: Sampling = GREEDY,
    *,
    seeds: Sequence[int] | None = None,
    until: Callable[[list[int]], bool] | None = None,
    weights: str | CpuDecoder = "float32",
    features: list[NDArray[np.uint8]] | None = None,
) -> list[list[int]]:
    """New tokens for each prompt, without the stop token that ends them.

    Repeat a prompt to get several answers to it: with beams, they are the best, the second best and so on.

    Args:
        seeds: one for each prompt; by default they follow from sampling.seed and the place in `prompts`. What is drawn
            for a prompt depends on its seed only, not on the batch.
        until: is given the tokens of an answer, after each, and says whether the answer ends with the last of them.
        weights: "float32"; on a CPU also "bfloat16", "int8" and "auto", the fastest: fewer bytes are read, and the
            answer is a little another. Or a Fast, which saves the time to pack the same weights again.
        features: of each prompt, rows [F, D] that stand where its tokens are negative: a picture's patches.

    Raises:
        ValueError: a prompt is empty, max_new_tokens does not fit into the context, the model does not generate, or
            there are more copies of a prompt than beams.
    """
    if model.config.predicts_features:
        raise ValueError("this model says sound, not text: use speak")
    if not prompts:
        return []
    was_training = model.training
    model.eval()
    try:
        if sampling.num_beams > 1:
            return _beam_search_batch(
                model, prompts, max_new_tokens, stop, sampling, until, weights, features
            )
        seeds = sampling.seeds(len(prompts)) if seeds is None else seeds
        if sampling.mbr_samples > 1:
            return _mbr_decode(
                model, prompts, max_new_tokens, stop, sampling, seeds, until, weights, features
            )
        how: dict[str, Any] = {
            "seeds": seeds,
            "until": until,
            "weights": weights,
            "features": features,
        }
        return _collect_stream(
            stream(model, prompts, max_new_tokens, stop, sampling, **how), len(prompts)
        )
    finally:
        model.train(was_training)


@torch.inference_mode()
def stream(
    model: Transformer,
    prompts: list[list[int]],
    max_new_tokens: int,
    stop: int,
    sampling: Sampling = GREEDY,
    *,
    seeds: Sequence[int] | None = None,
    until: Callable[[list[int]], bool] | None = None,
    weights: str | CpuDecoder = "float32",
    features: list[NDArray[np.uint8]] | None = None,
) -> Iterator[list[int | None]]:
    """The same, step by step: the next token of each answer, None for those that have ended.

    The model must be in eval mode, and beams and candidates 1.
    """
    assert not model.training
    assert sampling.num_beams == sampling.mbr_samples == 1
    reading = DecodeState(model, prompts, max_new_tokens, weights, features)
    seeds = sampling.seeds(len(prompts)) if seeds is None else seeds
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    uniform = torch.stack(
        [torch.rand(max_new_tokens, generator=generator) for generator in generators]
    )
    said: list[list[int]] = [[] for _ in prompts]
    batch = list(range(len(prompts)))  # the prompt that each sequence of the batch goes on from
    going = set(batch)
    for step in range(max_new_tokens):
        logits = apply_repetition_penalties(
            reading.logits.float(), [said[number] for number in batch], sampling
        )
        chosen = choose(logits, sampling, uniform[:, step])
        new: list[int | None] = [None] * len(prompts)
        for number, token in zip(batch, chosen.tolist(), strict=True):
            said[number].append(token)
            if number in going and token != stop:
                new[number] = token
            if token == stop or (until is not None and number in going and until(said[number])):
                going.discard(number)
        yield new
        if not going or step == max_new_tokens - 1:
            return
        if 2 * len(going) <= len(batch):  # those that have ended leave when they are half of it
            rows = [row for row, number in enumerate(batch) if number in going]
            reading.select(rows)
            chosen, uniform, batch = chosen[rows], uniform[rows], [batch[row] for row in rows]
        reading.step(chosen)


def _beam_search_batch(
    model: Transformer,
    prompts: list[list[int]],
    max_new_tokens: int,
    stop: int,
    sampling: Sampling,
    until: Callable[[list[int]], bool] | None,
    weights: str | CpuDecoder,
    features: list[NDArray[np.uint8]] | None,
) -> list[list[int]]:
    """For the first copy of a prompt its best answer, for the second its second best ..."""
    first, rows = deduplicate_prompts(prompts, features)
    copies = max(Counter(rows).values())
    if copies > sampling.num_beams:
        raise ValueError(
            f"{copies} answers to one prompt: num_beams={sampling.num_beams} must be at least as many"
        )
    each, given = picked(first, prompts, features)
    found = beam_search(model, each, max_new_tokens, stop, sampling, until, weights, given)
    answers = [iter(best) for best in found]
    return [next(answers[row]) for row in rows]


def _mbr_decode(
    model: Transformer,
    prompts: list[list[int]],
    max_new_tokens: int,
    stop: int,
    sampling: Sampling,
    seeds: Sequence[int],
    until: Callable[[list[int]], bool] | None,
    weights: str | CpuDecoder,
    features: list[NDArray[np.uint8]] | None,
) -> list[list[int]]:
    """For each prompt, the one of its candidates that most others resemble."""
    count, one = sampling.mbr_samples, replace(sampling, mbr_samples=1)
    copies = [number for number in range(len(prompts)) for _ in range(count)]
    each = [seed for given in seeds for seed in replace(sampling, seed=given).seeds(count)]
    longest = min(max(map(len, prompts)) + max_new_tokens, model.config.context)
    rows = max(1, min(ROWS, TOKENS // longest, len(copies)))
    packed = CpuDecoder.of(model, weights, rows) or weights
    drawn: list[list[int]] = []
    for start in range(0, len(copies), rows):
        some = slice(start, start + rows)
        here, given = picked(copies[some], prompts, features)
        how: dict[str, Any] = {
            "seeds": each[some],
            "until": until,
            "weights": packed,
            "features": given,
        }
        drawn += _collect_stream(stream(model, here, max_new_tokens, stop, one, **how), len(here))
    return [
        minimum_bayes_risk(drawn[place : place + count]) for place in range(0, len(drawn), count)
    ]


def _collect_stream(steps: Iterator[list[int | None]], count: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(count)]
    for tokens in steps:
        for row, token in zip(rows, tokens, strict=True):
            if token is not None:
                row.append(token)
    return rows
