"""Choose the next token: greedy, temperature, top-k, top-p (nucleus, arXiv 1904.09751) and min-p (arXiv 2407.01082),
after a repetition penalty (arXiv 1909.05858) and a ban on repeated n-grams (arXiv 1705.04304).

Legend: B sequences, V vocabulary, K tokens to sample from.
"""

import math

import torch
from torch import Tensor

from gptexp.sampling import Sampling


def sample_next_token(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """Return the next token of each sequence [B].

    Args:
        logits: [B, V].
        uniform: [B] on the CPU, a random number in [0, 1) for each sequence; greedy decoding ignores it.
    """
    if sampling.temperature == 0:
        if logits.device.type == "cpu":  # numpy's argmax is several times as fast
            return torch.from_numpy(logits.numpy().argmax(axis=-1))
        return logits.argmax(dim=-1)
    logits, tokens = filter_logits(
        logits / sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p
    )
    # Double precision, so that rounding never selects a token of probability 0.
    cumulative = logits.cpu().double().softmax(dim=-1).cumsum(dim=-1)  # [B, K]
    thresholds = uniform[:, None].double() * cumulative[:, -1:]
    indices = torch.searchsorted(cumulative, thresholds, right=True)
    return tokens.gather(1, indices.to(tokens.device))[:, 0]


def filter_logits(logits: Tensor, top_k: int, top_p: float, min_p: float) -> tuple[Tensor, Tensor]:
    """Return the logits to sample from [B, K], -inf where a token is excluded, and their token numbers [B, K]."""
    vocabulary = logits.shape[-1]
    if top_k or top_p < 1:
        logits, tokens = logits.topk(min(top_k or vocabulary, vocabulary), dim=-1)
    else:
        tokens = torch.arange(vocabulary, device=logits.device).expand_as(logits)
    if top_p < 1:
        probabilities = logits.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        logits = logits.masked_fill(before >= top_p, -torch.inf)
    if min_p > 0:
        threshold = logits.amax(dim=-1, keepdim=True) + math.log(min_p)
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    return logits, tokens


def apply_repetition_penalties(
    scores: Tensor, answers: list[list[int]], sampling: Sampling
) -> Tensor:
    """Return scores [B, V] that are lower, or -inf, for tokens that would repeat a part of the answer.

    The prompt does not count: a summary may use the words of its text.

    Args:
        answers: tokens of each answer so far, all of one length.
    """
    if sampling.repetition_penalty != 1 and answers[0]:
        tokens = torch.tensor(answers, device=scores.device)
        before = scores.gather(1, tokens)
        penalty = torch.where(
            before > 0, 1 / sampling.repetition_penalty, sampling.repetition_penalty
        )
        scores = scores.scatter(1, tokens, before * penalty)
    if 0 < sampling.no_repeat_ngram <= len(answers[0]):
        scores = scores.clone()
        for row, answer in zip(scores, answers, strict=True):
            row[_repeating_tokens(answer, sampling.no_repeat_ngram)] = -torch.inf
    return scores


def _repeating_tokens(answer: list[int], n: int) -> list[int]:
    """Return the tokens that would complete an n-gram that the answer already contains."""
    last = answer[len(answer) - n + 1 :]
    return [answer[i + n - 1] for i in range(len(answer) - n + 1) if answer[i : i + n - 1] == last]
