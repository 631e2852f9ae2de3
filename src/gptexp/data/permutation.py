"""Pseudo-random permutations that need no memory and no state, and the order of training that they give.

A Feistel network with cycle walking (Black and Rogaway 2002, "Ciphers with arbitrary finite domains") permutes any
number of examples, and computes where one of them goes without the others.

Each epoch is a new permutation of all sequences. The place in this order is counted in sequences, not in steps. So a
run that continues with another global batch size neither repeats nor skips a sequence within an epoch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6


@dataclass(frozen=True)
class OrderPosition:
    """The next sequence to train on."""

    epoch: int = 0
    offset: int = 0  # sequences of this epoch that are done

    def advance(self, count: int, sequences: int) -> "OrderPosition":
        """Return the position after `count` further sequences of a data set that has `sequences`."""
        epochs, offset = divmod(self.offset + count, sequences)
        return OrderPosition(self.epoch + epochs, offset)


def global_indices(
    seed: int, start: OrderPosition, batch_size: int, sequences: int
) -> NDArray[np.int64]:
    """Return the indices [batch_size] of the sequences of a global batch that begins at `start`.

    Raises:
        ValueError: there are no sequences.
    """
    if sequences < 1:
        raise ValueError("there are no sequences to order")
    positions = np.arange(start.offset, start.offset + batch_size, dtype=np.int64)
    epochs, positions_in_epoch = np.divmod(positions, sequences)
    indices = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        mask = epochs == epoch
        indices[mask] = feistel_permutation(
            positions_in_epoch[mask], sequences, seed, start.epoch + int(epoch)
        )
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
