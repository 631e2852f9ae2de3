"""The training sequences of a mixture: those of its sources, by weight, in an order that needs no state."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptexp.data.batch import Batch
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.mixture_order import MixtureOrder
from gptexp.data.permutation import OrderPosition, global_indices
from gptexp.loss import LossCounts

ENDLESS = 1 << 62  # sequences; a mixture has no epoch, each of its sources has
RESTART_EPOCHS = 1 << 20  # epochs of a source between two beginnings of a run


class MixedSequences(SequenceDataset):
    """Sequences of several data sets; the index of a sequence is its position in the run.

    The c-th sequence of a source is the c-th of that source's own order, a permutation of its sequences in each of its
    epochs. So none comes twice before all have come.

    Args:
        sources: in the order of the weights; all of their sequences have the same length.
        blocks: for the order of each source, as in `global_indices`.
    """

    def __init__(
        self,
        sources: list[SequenceDataset],
        order: MixtureOrder,
        seed: int,
        blocks: list[int | None],
    ) -> None:
        self.sources, self.mixture, self.seed, self.blocks = sources, order, seed, blocks
        self.is_local = all(source.is_local for source in sources)

    def __len__(self) -> int:
        return ENDLESS

    def global_batch_indices(
        self, seed: int, start: OrderPosition, count: int, block: int | None
    ) -> NDArray[np.int64]:
        """Return the positions themselves: each source has its own order."""
        return np.arange(start.offset, start.offset + count, dtype=np.int64)

    def begin_anew(self, epoch: int, sequences_done: int) -> OrderPosition:
        """Count on, since the phases of the weights count from the beginning of the run."""
        return OrderPosition(epoch, sequences_done)

    def prefetch(self, indices: NDArray[np.int64], epoch: int) -> None:
        every = np.arange(indices[0], indices[-1] + 1)
        for source, at, own, source_epoch in self._divide(every, epoch):
            source.prefetch(own[np.isin(at, indices)], source_epoch)

    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        parts, positions, counts = [], [], LossCounts()
        for source, at, own, source_epoch in self._divide(global_indices, epoch):
            is_here = np.isin(at, indices)
            part = source.batch(own[is_here], source_epoch, own)
            counts = counts.plus(part.counts)
            if is_here.any():
                parts.append(part)
                positions.append(at[is_here])
        order = torch.from_numpy(np.argsort(np.concatenate(positions), kind="stable"))
        joined = replace(_join(parts, order), counts=counts)
        return replace(joined, examples=torch.from_numpy(np.sort(indices)))

    def _divide(
        self, positions: NDArray[np.int64], epoch: int
    ) -> Iterator[tuple[SequenceDataset, NDArray[np.int64], NDArray[np.int64], int]]:
        """Divide the positions of a global batch, which follow each other, among the sources.

        Args:
            epoch: above 0 in a run that has begun anew with other data; each source then has other permutations.

        Yields:
            A source, those of the positions that are its own, the indices of its sequences there, and its epoch.
        """
        start, count = int(positions[0]), len(positions)
        numbers = self.mixture.sources(start, count)
        before = self.mixture.count_before(start)
        for number, (source, block) in enumerate(zip(self.sources, self.blocks, strict=True)):
            own = positions[numbers == number]
            if not len(own):
                continue
            epochs, offset = divmod(int(before[number]), len(source))
            place = OrderPosition(epochs + epoch * RESTART_EPOCHS, offset)
            indices = global_indices(self.seed, place, len(own), len(source), block)
            yield source, own, indices, place.epoch


def _join(parts: list[Batch], order: Tensor) -> Batch:
    """Return the sequences of several batches of one shape in a new order."""
    values: dict[str, Any] = {}
    for field in fields(Batch):
        tensors = [getattr(part, field.name) for part in parts]
        if isinstance(tensors[0], Tensor):
            values[field.name] = torch.cat(tensors)[order]
    return Batch(counts=parts[0].counts, **values)
