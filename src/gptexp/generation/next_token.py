"""Choose the next token: greedy, temperature, top-k, top-p (nucleus, arXiv 1904.09751) and min-p (arXiv 2407.01082),
after a repetition penalty (arXiv 1909.05858) and a ban on repeated n-grams (arXiv 1705.04304).

Legend: B sequences, V vocabulary, K tokens to sample from.
"""

import math

import torch
from torch import Tensor

from gptexp.sampling import Sampling

SMALLEST_TEMPERATURE = (
    1e-6  # below it logits overflow, and the most likely token has all probability
)
SMALLEST_TOP_P = 1e-9  # float32 holds it, and the most likely token of no vocabulary is less likely


def sample_next_token(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """Return the next token of each sequence [B].

    The same random numbers draw the same tokens on a CPU and on a GPU, and nothing waits for a GPU.

    Args:
        logits: [B, V].
        uniform: [B] on their device, a random number in [0, 1) for each sequence; greedy decoding ignores it.
    """
    if sampling.temperature < SMALLEST_TEMPERATURE:
        if logits.device.type == "cpu":  # numpy's argmax is several times as fast
            return torch.from_numpy(logits.numpy().argmax(axis=-1))
        return logits.argmax(dim=-1)
    logits, tokens = filter_logits(
        logits / sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p
    )
    # Double precision, so that rounding never selects a token of probability 0.
    cumulative = _cumulative_sum(logits.double().softmax(dim=-1))  # [B, K]
    thresholds = uniform[:, None].double() * cumulative[:, -1:]
    indices = torch.searchsorted(cumulative, thresholds, right=True)
    return tokens.gather(1, indices)[:, 0]


def filter_logits(logits: Tensor, top_k: int, top_p: float, min_p: float) -> tuple[Tensor, Tensor]:
    """Return the logits to sample from [B, K], -inf where a token is excluded, and their token numbers [B, K]."""
    vocabulary = logits.shape[-1]
    if top_k or top_p < 1:
        logits, tokens = logits.topk(min(top_k or vocabulary, vocabulary), dim=-1)
    else:
        tokens = torch.arange(vocabulary, device=logits.device).expand_as(logits)
    if top_p < 1:
        probabilities = logits.softmax(dim=-1)
        before = _cumulative_sum(probabilities) - probabilities
        logits = logits.masked_fill(before >= max(top_p, SMALLEST_TOP_P), -torch.inf)
    if min_p > 0:
        threshold = logits.amax(dim=-1, keepdim=True) + math.log(min_p)
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    return logits, tokens


def apply_repetition_penalties(scores: Tensor, answers: Tensor, sampling: Sampling) -> Tensor:
    """Return scores [B, V] that are lower, or -inf, for tokens that would repeat a part of the answer.

    The prompt does not count: a summary may use the words of its text.

    Args:
        answers: [B, T], the tokens of each answer so far.
    """
    T, n = answers.shape[1], sampling.no_repeat_ngram  # noqa: N806
    if sampling.repetition_penalty != 1 and T:
        before = scores.gather(1, answers)
        penalty = torch.where(
            before > 0, 1 / sampling.repetition_penalty, sampling.repetition_penalty
        )
        scores = scores.scatter(1, answers, before * penalty)
    if 0 < n <= T:
        ngrams = answers.unfold(1, n, 1)  # [B, T - n + 1, n]
        repeats = (ngrams[..., :-1] == answers[:, None, T - n + 1 :]).all(dim=-1)
        limits = torch.where(repeats, -torch.inf, torch.inf).to(scores.dtype)
        scores = scores.scatter_reduce(1, ngrams[..., -1], limits, "amin")
    return scores


def _cumulative_sum(x: Tensor) -> Tensor:
    """Sum up the columns of x [B, K] from the left.

    trainer.deterministic=true would choose a kernel on CUDA that needs K x K numbers a row, up to torch 2.12. The usual
    one gives a row to one block, which adds in a fixed order.
    """
    if x.device.type != "cuda" or not torch.are_deterministic_algorithms_enabled():
        return x.cumsum(dim=-1)
    warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        return x.cumsum(dim=-1)
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warns_only)
