"""Batches of a run: training batches by optimizer step, held-out batches one after the other.

A training batch is a function of (seed, step, rank) alone. So a run resumes at any step, with any number of ranks and
data workers, and without saved state.
"""

import math
from typing import Protocol

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from gptexp.config import schema
from gptexp.data.batch import Batch
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.permutation import feistel_permutation
from gptexp.data.token_store import TokenStore


class Layout(Protocol):
    """The part of a task's layout that this file calls."""

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset: ...


class DataModule(L.LightningDataModule):
    """The batches of a run. Lightning sees those from the current step to the last one as one epoch."""

    def __init__(
        self, layout: Layout, store: TokenStore, config: schema.TrainerConfig, seed: int
    ) -> None:
        super().__init__()
        self.layout, self.store, self.config, self.seed = layout, store, config, seed

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        batches = StepIndexedDataset(
            self.layout.dataset(self.store, "train", self.seed),
            self.seed,
            self.config.global_batch_size,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return DataLoader(
            batches,
            sampler=range(self.trainer.lightning_module.step, self.config.max_steps),
            batch_size=None,  # an item is a batch already
            num_workers=self.config.num_workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def held_out(self, split: str, batch_size: int) -> "HeldOutDataset | None":
        """Return the batches of a held-out split, if the data has it."""
        if not self.store.has(split):
            return None
        return HeldOutDataset(self.layout.dataset(self.store, split, None), batch_size)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch.to(device)


class StepIndexedDataset(Dataset):
    """Item `step` is this rank's part of the global batch of that optimizer step."""

    def __init__(
        self,
        sequences: SequenceDataset,
        seed: int,
        global_batch_size: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.sequences, self.seed, self.global_batch_size = sequences, seed, global_batch_size
        self.rank, self.ranks = rank, ranks

    def __getitem__(self, step: int) -> Batch:
        indices = global_indices(self.seed, step, self.global_batch_size, len(self.sequences))
        epoch = step * self.global_batch_size // len(self.sequences)
        return self.sequences.batch(indices[self.rank :: self.ranks], epoch, indices)


class HeldOutDataset(Dataset):
    """All sequences of a held-out split, each in exactly one batch, in the order of the split."""

    def __init__(self, sequences: SequenceDataset, batch_size: int) -> None:
        self.sequences, self.batch_size = sequences, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.sequences) / self.batch_size)

    def __getitem__(self, number: int) -> Batch:
        if number >= len(self):
            raise IndexError(number)
        start = number * self.batch_size
        end = min(start + self.batch_size, len(self.sequences))
        indices = np.arange(start, end, dtype=np.int64)
        return self.sequences.batch(indices, 0, indices)


def global_indices(seed: int, step: int, batch_size: int, sequences: int) -> NDArray[np.int64]:
    """Return the indices [batch_size] of the sequences of a step; each epoch is a new permutation of all.

    Raises:
        ValueError: there are no sequences.
    """
    if sequences < 1:
        raise ValueError("there are no sequences to order")
    positions = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, positions_in_epoch = np.divmod(positions, sequences)
    indices = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        mask = epochs == epoch
        indices[mask] = feistel_permutation(positions_in_epoch[mask], sequences, seed, int(epoch))
    return indices
