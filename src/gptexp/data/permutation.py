"""The examples of each step, as a function of (seed, step) alone.

No state is kept and nothing is saved: to resume at any step, with any number of ranks or workers, costs one evaluation
of a permutation. The permutation is a Feistel network with cycle walking (Black and Rogaway 2002, "Ciphers with
arbitrary finite domains"), so that it needs no memory however many examples there are.
"""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6


def global_batch(seed: int, step: int, batch: int, examples: int) -> NDArray[np.int64]:
    """Return the indices [batch] of the examples of optimizer step `step` (from 0); each epoch is a new permutation.

    Raises:
        ValueError: there are no examples.
    """
    if examples < 1:
        raise ValueError("there are no examples to order")
    positions = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    epochs, positions_in_epoch = np.divmod(positions, examples)
    indices = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(epochs):
        mask = epochs == epoch
        indices[mask] = feistel_permutation(positions_in_epoch[mask], examples, seed, int(epoch))
    return indices


def feistel_permutation(
    positions: NDArray[np.int64], size: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Map `positions` by the pseudo-random permutation of range(size) that (seed, epoch) chooses."""
    half_bits = max(1, (int(size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half_bits) - 1)
    keys = np.random.SeedSequence([seed, epoch]).generate_state(ROUNDS, np.uint64)
    values = positions.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():  # the network permutes 4**half_bits >= size numbers: repeat until inside
        left, right = values[outside] >> np.uint64(half_bits), values[outside] & mask
        for key in keys:
            left, right = right, left ^ (splitmix64(right ^ key) & mask)
        values[outside] = (left << np.uint64(half_bits)) | right
        outside = values >= size
    return values.astype(np.int64)


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of 64-bit numbers: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
