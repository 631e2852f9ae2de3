"""Minimum Bayes risk decoding (Kumar and Byrne 2004, N04-1022) over samples (Eikema and Aziz 2020, arXiv 2005.10283).

It selects the candidate that is most similar to the others. The most likely answer is often a rare one, and too short.
A task can weigh the candidates, by what it knows of a good answer.
"""

from collections import Counter
from collections.abc import Sequence


def select_minimum_bayes_risk(
    answers: list[list[int]], weights: Sequence[float] | None = None
) -> list[int]:
    """Return the answer with the highest mean F1 of its tokens, as multisets, to the others; of equals the first.

    Args:
        weights: a factor of each answer's mean F1; where all are 0, they count as equal.
    """
    counts = [Counter(answer) for answer in answers]
    weights = weights if weights and any(weights) else [1.0] * len(answers)
    utilities = [
        weight * sum(_f1(own, other) for other in counts)
        for own, weight in zip(counts, weights, strict=True)
    ]
    return answers[utilities.index(max(utilities))]


def _f1(one: Counter[int], other: Counter[int]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0
