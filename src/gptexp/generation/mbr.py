"""Minimum Bayes risk decoding (Kumar and Byrne 2004, N04-1022) over samples (Eikema and Aziz 2020, arXiv 2005.10283).

It selects the sampled answer that is most similar to the others. The most likely answer is often a rare one, and too
short.
"""

from collections import Counter


def select_minimum_bayes_risk(answers: list[list[int]]) -> list[int]:
    """Return the answer with the highest mean F1 of its tokens, as multisets, to the others; of equals the first."""
    counts = [Counter(answer) for answer in answers]
    utilities = [sum(_f1(own, other) for other in counts) for own in counts]
    return answers[utilities.index(max(utilities))]


def _f1(one: Counter[int], other: Counter[int]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0
