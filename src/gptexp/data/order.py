"""The order of the training sequences: each epoch is a new permutation of all of them.

The place in this order is counted in sequences, not in steps. So a run that continues with another global batch size
neither repeats nor skips a sequence within an epoch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptexp.data.permutation import feistel_permutation


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
