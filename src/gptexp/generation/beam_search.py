"""Beam search: the likeliest answers, found by following several side by side.

Legend: B prompts, N beams of each, V vocabulary.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.generation.cpu.decoder import CpuDecoder
from gptexp.generation.decode_state import DecodeState, picked
from gptexp.generation.sampling import Sampling, apply_repetition_penalties
from gptexp.model.transformer import Transformer


@torch.inference_mode()
def beam_search(
    model: Transformer,
    prompts: list[list[int]],
    max_new_tokens: int,
    stop: int,
    sampling: Sampling,
    until: Callable[[list[int]], bool] | None = None,
    weights: str | CpuDecoder = "float32",
    features: list[NDArray[np.uint8]] | None = None,
) -> list[list[list[int]]]:
    """The sampling.beams best answers to each prompt, best first.

    The score of an answer is the logarithm of its probability divided by its length to the power of length_penalty,
    the stop token counted. A prompt is done when it has as many answers as beams and, at the length so far, no beam
    scores better than the worst of them; these are the rules of transformers.

    Args and errors: see `decoding.generate`.
    """
    N = sampling.num_beams  # noqa: N806
    copies = [number for number in range(len(prompts)) for _ in range(N)]
    each, given = picked(copies, prompts, features)
    reading = DecodeState(model, each, max_new_tokens, weights, given)
    scores = torch.tensor([0.0] + [-math.inf] * (N - 1)).repeat(
        len(prompts), 1
    )  # [B, N]: at first all are the same
    said: list[list[int]] = [[] for _ in range(len(prompts) * N)]
    found: list[list[tuple[float, list[int]]]] = [[] for _ in prompts]
    open_prompts = set(range(len(prompts)))
    for length in range(1, max_new_tokens + 1):
        likely = apply_repetition_penalties(
            reading.logits.float().log_softmax(dim=-1), said, sampling
        )  # [B * N, V]
        vocabulary = likely.shape[-1]
        likely = likely.view(len(prompts), N, vocabulary) + scores.to(likely.device)[:, :, None]
        best, places = likely.flatten(1).topk(min(2 * N, N * vocabulary))
        going: list[
            tuple[float, int, list[int]]
        ] = []  # score, row that it goes on from, tokens; N for each prompt
        for number, candidates in enumerate(zip(best.tolist(), places.tolist(), strict=True)):
            on = []
            for rank, (score, place) in enumerate(zip(*candidates, strict=True)):
                row = number * N + place // vocabulary
                answer = [*said[row], place % vocabulary]
                if not (
                    length == max_new_tokens
                    or answer[-1] == stop
                    or (until is not None and until(answer))
                ):
                    on.append((score, row, answer))
                elif rank < N and score > -math.inf and number in open_prompts:
                    found[number].append((score / length**sampling.length_penalty, answer))
            found[number] = sorted(found[number], key=lambda pair: -pair[0])[:N]
            on = (on + [(-math.inf, number * N, said[number * N] + [0])] * N)[
                :N
            ]  # where `until` has ended the rest
            if (
                len(found[number]) == N
                and on[0][0] / length**sampling.length_penalty <= found[number][-1][0]
            ):
                open_prompts.discard(number)
            going += on
        if length == max_new_tokens or not open_prompts:
            break
        scores = torch.tensor([score for score, _, _ in going]).view(len(prompts), N)
        said = [answer for _, _, answer in going]
        reading.select([row for _, row, _ in going])
        reading.step(torch.tensor([answer[-1] for answer in said], device=likely.device))
    return [
        [answer[:-1] if answer[-1] == stop else answer for _, answer in answers]
        for answers in found
    ]
