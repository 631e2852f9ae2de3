"""The answer that most of the others resemble: minimum Bayes risk decoding (Kumar and Byrne 2004, N04-1022), of answers
that are drawn (Eikema and Aziz 2020, arXiv 2005.10283). The likeliest answer is often a rare one, and too short.
"""

from collections import Counter


def minimum_bayes_risk(answers: list[list[int]]) -> list[int]:
    """The one with the highest mean F1 of its tokens to the others, their order aside; of equals the first."""
    counted = [Counter(answer) for answer in answers]
    return max(
        zip(answers, counted, strict=True),
        key=lambda pair: sum(_f1(pair[1], other) for other in counted),
    )[0]


def _f1(one: Counter[int], other: Counter[int]) -> float:
    both = one.total() + other.total()
    return 2 * (one & other).total() / both if both else 1.0
