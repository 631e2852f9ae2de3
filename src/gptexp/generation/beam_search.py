"""Beam search: keep the most likely unfinished answers of each prompt, and extend all of them by a token at a time.

Legend: B prompts, N beams of each, V vocabulary.
"""

import math
from collections.abc import Callable, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from gptexp.generation.decode_state import DecodeState
from gptexp.generation.next_token import apply_repetition_penalties
from gptexp.sampling import Sampling


@dataclass(frozen=True)
class Hypothesis:
    """An answer that the search considers."""

    score: float  # its log-probability; once finished, divided by length ** length_penalty
    row: int  # row of the batch with the KV cache of all its tokens but the last
    tokens: list[int]


def beam_search(
    state: DecodeState,
    prompts: int,
    max_new_tokens: int,
    eos: Set[int],
    sampling: Sampling,
    stopping_criteria: Callable[[list[int]], bool] | None = None,
) -> list[list[list[int]]]:
    """Return the `num_beams` best answers to each prompt, best first.

    The score of an answer is its log-probability divided by its length to the power of length_penalty; the
    end-of-text token counts. The search for a prompt ends when `num_beams` answers are finished and no beam, divided by
    the current length, scores better than the worst of them. These are the rules of transformers.

    Args:
        state: `num_beams` copies of each prompt, one prompt after the other.
        prompts: number of different prompts.
    """
    N = sampling.num_beams  # noqa: N806
    beams = [
        [Hypothesis(-math.inf if beam else 0.0, number * N + beam, []) for beam in range(N)]
        for number in range(prompts)
    ]  # at first all beams of a prompt are equal: one is enough
    finished: list[list[Hypothesis]] = [[] for _ in range(prompts)]
    unfinished_prompts = set(range(prompts))
    for length in range(1, max_new_tokens + 1):
        answers = [beam.tokens for row in beams for beam in row]
        log_probabilities = apply_repetition_penalties(
            state.logits.float().log_softmax(dim=-1), answers, sampling
        )
        normaliser = length**sampling.length_penalty
        for number, candidates in enumerate(_expand(beams, log_probabilities)):
            ended = [
                length == max_new_tokens
                or candidate.tokens[-1] in eos
                or (stopping_criteria is not None and stopping_criteria(candidate.tokens))
                for candidate in candidates
            ]
            if number in unfinished_prompts:
                finished[number] += [
                    Hypothesis(candidate.score / normaliser, candidate.row, candidate.tokens)
                    for candidate, has_ended in zip(candidates[:N], ended, strict=False)
                    if has_ended and candidate.score > -math.inf
                ]
                finished[number] = sorted(finished[number], key=lambda h: -h.score)[:N]
            first = beams[number][0]  # fills up missing beams, with probability 0
            impossible = Hypothesis(-math.inf, number * N, [*first.tokens, 0])
            continued = [c for c, has_ended in zip(candidates, ended, strict=True) if not has_ended]
            beams[number] = (continued + [impossible] * N)[:N]
            best = beams[number][0].score / normaliser
            if len(finished[number]) == N and best <= finished[number][-1].score:
                unfinished_prompts.discard(number)
        if length == max_new_tokens or not unfinished_prompts:
            break
        state.select([beam.row for row in beams for beam in row])
        last = [beam.tokens[-1] for row in beams for beam in row]
        state.step(torch.tensor(last, device=state.logits.device))
    return [[_without_eos(answer.tokens, eos) for answer in answers] for answers in finished]


def _expand(beams: list[list[Hypothesis]], log_probabilities: Tensor) -> list[list[Hypothesis]]:
    """Return the 2 N most likely continuations of each prompt's beams by one token, best first.

    Twice as many as beams, so that N go on even if N of them end.

    Args:
        log_probabilities: [B * N, V], of the next token of each beam.
    """
    B, N, V = len(beams), len(beams[0]), log_probabilities.shape[-1]  # noqa: N806
    scores = torch.tensor([[beam.score for beam in row] for row in beams])  # [B, N]
    totals = log_probabilities.view(B, N, V) + scores.to(log_probabilities.device)[:, :, None]
    best, indices = totals.flatten(1).topk(min(2 * N, N * V))
    return [
        [
            Hypothesis(score, number * N + index // V, [*row[index // V].tokens, index % V])
            for score, index in zip(*candidates, strict=True)
        ]
        for number, (row, *candidates) in enumerate(
            zip(beams, best.tolist(), indices.tolist(), strict=True)
        )
    ]


def _without_eos(tokens: list[int], eos: Set[int]) -> list[int]:
    return tokens[:-1] if tokens[-1] in eos else tokens
