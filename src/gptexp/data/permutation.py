"""Pseudo-random permutations that need no memory and no state, and the order of training that they give.

A Feistel network with cycle walking (Black and Rogaway 2002, "Ciphers with arbitrary finite domains") permutes any
number of examples, and computes where one of them goes without the others.

Each epoch is a new permutation of all sequences. The place in this order is counted in sequences, not in steps. So a
run that continues with another global batch size neither repeats nor skips a sequence within an epoch.

The order by blocks is for data that a network is in between, where each read costs a request. Blocks of neighbouring
sequences are permuted, and then the sequences of GROUP_BLOCKS blocks in a row: they are read once and used up.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6
GROUP_BLOCKS = 64


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
    seed: int, start: OrderPosition, batch_size: int, sequences: int, block: int | None = None
) -> NDArray[np.int64]:
    """Return the indices [batch_size] of the sequences of a global batch that begins at `start`.

    Args:
        block: number of sequences of a block, for the order by blocks; None: all sequences are permuted at once.

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
        key = seed, start.epoch + int(epoch)
        if block is None:
            indices[mask] = feistel_permutation(positions_in_epoch[mask], sequences, *key)
        else:
            indices[mask] = block_permutation(positions_in_epoch[mask], sequences, *key, block)
    return indices


def block_permutation(
    positions: NDArray[np.int64], size: int, seed: int, epoch: int, block: int
) -> NDArray[np.int64]:
    """Map `positions` by a permutation of range(size) in which the numbers of a block are close to each other.

    The numbers behind the last complete block belong to the last group, whose place is the end.
    """
    num_blocks = size // block
    num_groups = max(1, -(-num_blocks // GROUP_BLOCKS))
    group_size = GROUP_BLOCKS * block
    indices = np.empty_like(positions)
    groups = np.minimum(positions // group_size, num_groups - 1)
    for group in np.unique(groups):
        mask, first = groups == group, group * group_size
        count = size - first if group == num_groups - 1 else group_size
        inside = feistel_permutation(positions[mask] - first, count, seed, epoch, int(group) + 1)
        slots, places = np.divmod(first + inside, block)
        is_complete = slots < num_blocks
        slots[is_complete] = feistel_permutation(slots[is_complete], num_blocks, seed, epoch)
        indices[mask] = slots * block + places
    return indices


def feistel_permutation(
    positions: NDArray[np.int64], size: int, seed: int, epoch: int, group: int | None = None
) -> NDArray[np.int64]:
    """Map `positions` by the pseudo-random permutation of range(size) that (seed, epoch, group) chooses."""
    half_bits = max(1, (int(size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half_bits) - 1)
    key = [seed, epoch] if group is None else [seed, epoch, group]
    keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)
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
