"""Which examples a step sees, as a function of (seed, step) alone.

No state is kept and nothing is saved: resuming at any step, with any number of ranks or workers, costs one
evaluation of a permutation. The permutation is a Feistel network with cycle walking (Black and Rogaway 2002,
"Ciphers with arbitrary finite domains"), so that it needs no memory however many examples there are.
"""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6


def global_batch(seed: int, step: int, batch: int, examples: int) -> NDArray[np.int64]:
    """Indices [batch] of the examples of optimizer step `step` (from 0), each epoch a new permutation.

    Raises:
        ValueError: there are no examples.
    """
    if examples < 1:
        raise ValueError("there are no examples to order")
    position = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    epochs, within = np.divmod(position, examples)
    indices = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = feistel_permutation(within[here], examples, seed, int(epoch))
    return indices


def feistel_permutation(
    positions: NDArray[np.int64], size: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Images of `positions` under a pseudo-random permutation of range(size)."""
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = np.random.SeedSequence([seed, epoch]).generate_state(ROUNDS, np.uint64)
    values = positions.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():  # the network permutes 4**half >= size numbers: walk on until back inside
        left, right = values[outside] >> np.uint64(half), values[outside] & mask
        for key in keys:
            left, right = right, left ^ (splitmix64(right ^ key) & mask)
        values[outside] = (left << np.uint64(half)) | right
        outside = values >= size
    return values.astype(np.int64)


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): each output bit depends on each input bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
