"""How the next token is chosen: greedy, temperature, top-k, top-p (nucleus, arXiv 1904.09751) and min-p (2407.01082);
and what keeps an answer from going in circles: a penalty on repetition (1909.05858), no n-gram twice (1705.04304).

Legend: B sequences, V vocabulary, K tokens to draw from.
"""

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How an answer is chosen. By default it is greedy, and nothing is restricted.

    Raises:
        ValueError: a value is out of its range, or has no effect with the others.
    """

    temperature: float = 0.0  # 0: the likeliest token each time
    _: KW_ONLY
    top_k: int = 0  # draw from the k likeliest; 0: from all
    top_p: float = 1.0  # draw from the likeliest that sum to p
    min_p: float = 0.0  # draw from those that are at least p times as likely as the likeliest
    repetition_penalty: float = 1.0  # above 1: what the answer has already is less likely
    no_repeat_ngram: int = 0  # no n tokens in a row stand twice in an answer; 0: they may
    num_beams: int = 1  # answers that are followed side by side
    length_penalty: float = 1.0  # of beams: above 0 prefers long answers, below 0 short ones
    mbr_samples: int = (
        1  # answers that are drawn, of which the one that most others resemble is given
    )
    seed: int = 0

    def __post_init__(self) -> None:
        allowed = {
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
        wrong = [
            f"{name}={getattr(self, name)}: must be {said}"
            for name, (holds, said) in allowed.items()
            if not holds
        ]
        if self.num_beams > 1 and self.mbr_samples > 1:
            wrong.append(
                f"num_beams={self.num_beams} searches, mbr_samples={self.mbr_samples} draws: one of them must be 1"
            )
        elif self.temperature > 0 and self.num_beams > 1:
            wrong.append(
                f"num_beams={self.num_beams}: the likeliest answer is not drawn, so temperature must be 0"
            )
        elif self.temperature == 0 and self.mbr_samples > 1:
            wrong.append(
                f"mbr_samples={self.mbr_samples}: must differ, so temperature must be above 0"
            )
        if self.temperature == 0 and (self.top_k, self.top_p, self.min_p) != (0, 1, 0):
            wrong.append(
                "top_k, top_p and min_p restrict what is drawn: temperature must be above 0"
            )
        if self.length_penalty != 1 and self.num_beams == 1:
            wrong.append(
                f"length_penalty={self.length_penalty}: compares answers, so beams must be above 1"
            )
        if wrong:
            raise ValueError("; ".join(wrong))

    def changed(self, answers: int = 1, **given: Any) -> Self:
        """The same with the values that are given, None being not given; several answers are drawn, or from beams.

        What has no effect beside them falls back to its default: beams where something is drawn, candidates where
        beams, a temperature of 0 or several answers are asked for.

        Raises:
            ValueError: a value is out of its range. TypeError: there is no such value.
        """
        given = {name: value for name, value in given.items() if value is not None}
        other_way = answers > 1 or given.get("num_beams", 1) > 1 or given.get("temperature") == 0
        mbr_samples = given.get("mbr_samples", 1 if other_way else self.mbr_samples)
        if mbr_samples == 1 < self.mbr_samples:
            return replace(self, temperature=0.0, mbr_samples=1).changed(answers, **given)
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

    def seeds(self, requests: int) -> list[int]:
        """A seed for each request, that follows from its number and `seed`."""
        return [(self.seed * 1_000_003 + number) % 2**63 for number in range(requests)]


def choose(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """The next token of each sequence: logits [B, V] and a random number each in [0, 1), [B] on the CPU -> [B]."""
    if sampling.temperature == 0:
        on_cpu = logits.device.type == "cpu"  # where numpy's is several times as fast
        return torch.from_numpy(logits.numpy().argmax(axis=-1)) if on_cpu else logits.argmax(dim=-1)
    logits, tokens = filter_logits(
        logits / sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p
    )
    # In double precision, so that a token of probability 0 is never where the number falls.
    cumulated = logits.cpu().double().softmax(dim=-1).cumsum(dim=-1)  # [B, K]
    places = torch.searchsorted(
        cumulated, uniform[:, None].double() * cumulated[:, -1:], right=True
    )
    return tokens.gather(1, places.to(tokens.device))[:, 0]


def filter_logits(logits: Tensor, top_k: int, top_p: float, min_p: float) -> tuple[Tensor, Tensor]:
    """logits [B, V] -> those to draw from [B, K], -inf for what must not be drawn, and which tokens they are [B, K]."""
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
        logits = logits.masked_fill(
            logits < logits.amax(dim=-1, keepdim=True) + math.log(min_p), -torch.inf
        )
    return logits, tokens


def apply_repetition_penalties(scores: Tensor, said: list[list[int]], sampling: Sampling) -> Tensor:
    """Scores [B, V], less likely or -inf for what would repeat the answers so far, which are all of one length.

    What stands in a prompt may be said again: a summary has its words from the text.
    """
    if sampling.repetition_penalty != 1 and said[0]:
        tokens = torch.tensor(said, device=scores.device)
        before = scores.gather(1, tokens)
        penalty = torch.where(
            before > 0, 1 / sampling.repetition_penalty, sampling.repetition_penalty
        )
        scores = scores.scatter(1, tokens, before * penalty)
    if 0 < sampling.no_repeat_ngram <= len(said[0]):
        scores = scores.clone()
        for row, tokens_said in zip(scores, said, strict=True):
            row[_ngram_repeats(tokens_said, sampling.no_repeat_ngram)] = -torch.inf
    return scores


def _ngram_repeats(tokens: list[int], n: int) -> list[int]:
    """Tokens that would make the last n of `tokens` what stands in it already."""
    last = tokens[len(tokens) - n + 1 :]
    return [tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tokens[i : i + n - 1] == last]
