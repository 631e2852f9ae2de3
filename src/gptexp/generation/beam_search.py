"""Beam search: keep the most likely unfinished answers of each prompt, and extend all of them by a token at a time.

Legend: B prompts, N beams of each, K candidates to continue with, V vocabulary.
"""

import math
from collections.abc import Callable, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gptexp.generation.decode_state import DecodeState
from gptexp.generation.host_copy import HostCopy, to_device
from gptexp.generation.next_token import apply_repetition_penalties
from gptexp.sampling import Sampling


@dataclass(frozen=True)
class Hypothesis:
    """An answer that the search considers."""

    score: float  # its log-probability; once finished, divided by length ** length_penalty
    tokens: list[int]


@dataclass
class Search:
    """The answers to one prompt: `num_beams` unfinished ones, and as many finished ones, each best first."""

    beams: list[Hypothesis]
    finished: list[Hypothesis] = field(default_factory=list)
    is_finished: bool = False

    def extend(
        self, candidates: list[Hypothesis], has_ended: list[bool], length_penalty: float
    ) -> None:
        """Take over the candidates of a step, best first; the first N of them may finish, and N go on."""
        N, normaliser = len(self.beams), len(candidates[0].tokens) ** length_penalty  # noqa: N806
        if not self.is_finished:
            self.finished += [
                Hypothesis(candidate.score / normaliser, candidate.tokens)
                for candidate, ended in zip(candidates[:N], has_ended, strict=False)
                if ended and candidate.score > -math.inf
            ]
            self.finished = sorted(self.finished, key=lambda h: -h.score)[:N]
        # Where fewer than N go on, others of probability 0 take their places.
        impossible = Hypothesis(-math.inf, [*self.beams[0].tokens, 0])
        unfinished = [c for c, ended in zip(candidates, has_ended, strict=True) if not ended]
        self.beams = (unfinished + [impossible] * N)[:N]
        if len(self.finished) == N:
            best = self.beams[0].score / normaliser
            self.is_finished = self.is_finished or best <= self.finished[-1].score


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
    N, device = sampling.num_beams, state.logits.device  # noqa: N806
    searches = [Search([Hypothesis(0.0, [])] * N) for _ in range(prompts)]
    batch = searches  # those whose prompts are in the batch
    ends = torch.tensor(sorted(eos), dtype=torch.long, device=device)
    scores = torch.full((prompts, N), -torch.inf, device=device)
    scores[:, 0] = 0.0  # at first all beams of a prompt are equal: one is enough
    history = torch.empty(prompts * N, max_new_tokens, dtype=torch.long, device=device)
    for length in range(1, max_new_tokens + 1):
        is_last = length == max_new_tokens
        log_probabilities = apply_repetition_penalties(
            state.logits.float().log_softmax(dim=-1), history[:, : length - 1], sampling
        )
        best, parents, tokens = _expand(scores, log_probabilities)
        copies = HostCopy(best), HostCopy(parents), HostCopy(tokens)
        # The next step begins before the host reads this one, unless only Python knows which answers end.
        runs_ahead = state.runs_ahead and stopping_criteria is None and not is_last
        if runs_ahead:
            has_ended = (tokens[..., None] == ends).any(dim=-1)
            choice = _choose_beams(best, parents, tokens, has_ended, N)
            scores, history = _advance(state, history, length, *choice)
        all_ended = []
        for search, *columns in zip(batch, *(copy.tolist() for copy in copies), strict=True):
            candidates = [
                Hypothesis(score, [*search.beams[parent].tokens, token])
                for score, parent, token in zip(*columns, strict=True)
            ]
            ended = [
                is_last
                or candidate.tokens[-1] in eos
                or (stopping_criteria is not None and stopping_criteria(candidate.tokens))
                for candidate in candidates
            ]
            search.extend(candidates, ended, sampling.length_penalty)
            all_ended.append(ended)
        if is_last or all(search.is_finished for search in batch):
            break
        if not runs_ahead:
            choice = _choose_beams(best, parents, tokens, to_device(all_ended, device), N)
            scores, history = _advance(state, history, length, *choice)
        unfinished = [number for number, search in enumerate(batch) if not search.is_finished]
        if 2 * len(unfinished) <= len(batch):  # drop finished prompts when they are half of them
            kept = state.rows_to_keep(unfinished, len(batch))
            rows = state.select([number * N + beam for number in kept for beam in range(N)])
            batch = [batch[number] for number in kept]
            scores, history = scores.flatten()[rows].view(-1, N), history[rows]
    return [[_without_eos(answer.tokens, eos) for answer in search.finished] for search in searches]


def _expand(scores: Tensor, log_probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the 2 N most likely continuations of each prompt's beams by one token, best first.

    Twice as many as beams, so that N go on even if N of them end.

    Args:
        scores: [B, N], of the beams.
        log_probabilities: [B * N, V], of the next token of each beam.

    Returns:
        scores, numbers of the beams that they continue, and tokens, [B, K] each.
    """
    (B, N), V = scores.shape, log_probabilities.shape[-1]  # noqa: N806
    totals = log_probabilities.view(B, N, V) + scores[:, :, None]
    best, indices = totals.flatten(1).topk(min(2 * N, N * V))
    return best, indices // V, indices % V


def _choose_beams(
    best: Tensor, parents: Tensor, tokens: Tensor, has_ended: Tensor, beams: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first candidates that have not ended, [B, N] each; see `Search.extend` where there are too few."""
    order = has_ended.int().argsort(dim=1, stable=True)[:, :beams]
    is_impossible = has_ended.gather(1, order)
    return (
        best.gather(1, order).masked_fill(is_impossible, -torch.inf),
        parents.gather(1, order).masked_fill(is_impossible, 0),
        tokens.gather(1, order).masked_fill(is_impossible, 0),
    )


def _advance(
    state: DecodeState,
    history: Tensor,
    length: int,
    scores: Tensor,
    parents: Tensor,
    tokens: Tensor,
) -> tuple[Tensor, Tensor]:
    """Compute the logits that follow the tokens [B, N]; return their scores, and the history with them."""
    B, N = tokens.shape  # noqa: N806
    rows = (parents + torch.arange(0, B * N, N, device=parents.device)[:, None]).flatten()
    history = history[rows]
    history[:, length - 1] = tokens.flatten()
    state.select(rows, has_same_prompts=True)
    state.step(tokens.flatten())
    return scores, history


def _without_eos(tokens: list[int], eos: Set[int]) -> list[int]:
    return tokens[:-1] if tokens[-1] in eos else tokens
