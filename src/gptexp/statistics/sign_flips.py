"""The exact test of paired differences: how many choices of signs give a sum as far from zero (Fisher 1935)."""

import math

import numpy as np
from numpy.typing import ArrayLike

from gptexp.statistics.summary import LEVEL

MAX_ENUMERATED = 12  # differences; more are sampled
MAX_SAMPLED = 2000  # differences; more are close enough to the t distribution
BLOCK = 4000  # choices of signs that are drawn together
MAX_SIGNS = 40_000_000  # half a second


def sign_flip_p(differences: ArrayLike, level: float = LEVEL) -> float | None:
    """Return the share of all choices of signs whose sum is at least as far from zero as the one that was seen.

    Differences of zero do not matter. Up to 12 others give the exact share, more of them a sampled one that is
    the same at every call. None: there are more than 2,000, or too many for the draws that the level takes.

    Args:
        level: that the result is compared with; ten draws or more are expected below it.
    """
    array = np.asarray(differences, np.float64)
    sizes = np.abs(array[array != 0])
    count = len(sizes)
    if count > MAX_SAMPLED:
        return None
    limit = abs(array.sum()) * (1 - 1e-9)  # equal sums differ in their last bits
    if count <= MAX_ENUMERATED:
        signs = 1.0 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return float((np.abs(signs @ sizes) >= limit).mean())
    blocks = math.ceil(10 / level / BLOCK)
    if blocks * BLOCK * count > MAX_SIGNS:
        return None
    rng = np.random.default_rng(0)
    far = 0
    for _ in range(blocks):
        signs = rng.integers(0, 2, (BLOCK, count), np.int8) * 2.0 - 1
        far += int((np.abs(signs @ sizes) >= limit).sum())
    return (1 + far) / (1 + blocks * BLOCK)
