"""Batches for Lightning: the training set is indexed by optimizer step, so nothing has to be saved to resume."""

from __future__ import annotations

from collections.abc import Callable

import lightning as L
import numpy as np
from torch.utils.data import DataLoader, Dataset

from gptexp.config import schema
from gptexp.data import order
from gptexp.data.batch import Batch
from gptexp.data.packing import Sequences


class StepBatches(Dataset):
    """Item `step` is this rank's share of the global batch of that step: a function of (seed, step, rank)."""

    def __init__(self, sequences: Sequences, seed: int, global_batch: int, rank: int, ranks: int) -> None:
        self.sequences, self.seed, self.global_batch = sequences, seed, global_batch
        self.rank, self.ranks = rank, ranks

    def __getitem__(self, step: int) -> Batch:
        indices = order.global_batch(self.seed, step, self.global_batch, len(self.sequences))
        total = self.sequences.targets(indices)
        epoch = step * self.global_batch // len(self.sequences)
        return self.sequences.batch(indices[self.rank :: self.ranks], epoch, total)


class HeldOutBatches(Dataset):
    """Every sequence of a held-out split exactly once over all ranks, in a fixed order.

    All ranks have the same number of batches, since sharded models compute together: a rank that has run out of
    sequences gives its first one again, without targets.
    """

    def __init__(self, sequences: Sequences, batch: int, rank: int = 0, ranks: int = 1) -> None:
        self.sequences, self.batch = sequences, batch
        self.mine = np.arange(rank, len(sequences), ranks, dtype=np.int64)
        self.batches = -(-(-(-len(sequences) // ranks)) // batch)

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> Batch:
        if number >= self.batches:
            raise IndexError(number)
        indices = self.mine[number * self.batch : (number + 1) * self.batch]
        if len(indices):
            return self.sequences.batch(indices, 0, self.sequences.targets(indices))
        filler = self.sequences.batch(np.zeros(1, np.int64), 0, 0)
        filler.targets.fill_(-100)
        return filler


class DataModule(L.LightningDataModule):
    """`step` tells where training stands; one Lightning epoch is the stretch from there to the next validation."""

    def __init__(
        self, train: Sequences, val: Sequences | None, trainer: schema.Trainer, seed: int, step: Callable[[], int]
    ) -> None:
        super().__init__()
        self.sequences, self.held_out = train, val
        self.settings, self.seed, self.step = trainer, seed, step

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        settings = self.settings
        here = self.step()
        until = min(settings.max_steps, (here // settings.val_every + 1) * settings.val_every)
        steps = StepBatches(
            self.sequences, self.seed, settings.global_batch, self.trainer.global_rank, self.trainer.world_size
        )
        return self._loader(steps, range(here, until))

    def val_dataloader(self) -> DataLoader | list:
        assert self.trainer is not None
        if self.held_out is None:
            return []
        share = self.settings.global_batch // self.trainer.world_size
        batch = min(self.settings.micro_batch or max(share, 16), 64)
        batches = HeldOutBatches(self.held_out, batch, self.trainer.global_rank, self.trainer.world_size)
        return self._loader(batches, range(len(batches)))

    def _loader(self, dataset: Dataset, order_of_items: range) -> DataLoader:
        return DataLoader(
            dataset,
            sampler=order_of_items,
            batch_size=None,  # an item is a batch already
            num_workers=self.settings.workers,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        )
