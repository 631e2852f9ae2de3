"""Batches of a run: training batches by optimizer step, held-out batches one after the other.

A training batch is a function of (seed, step, rank) alone, so that resuming needs no saved state.
"""

import math

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from gptexp.config import schema
from gptexp.data import permutation
from gptexp.data.batch import Batch
from gptexp.data.datasets.dataset import SequenceDataset


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
        indices = permutation.global_batch(
            self.seed, step, self.global_batch_size, len(self.sequences)
        )
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


class DataModule(L.LightningDataModule):
    """The training batches from `first_step` to the last step; Lightning sees them as one epoch."""

    def __init__(
        self, sequences: SequenceDataset, config: schema.TrainerConfig, seed: int, first_step: int
    ) -> None:
        super().__init__()
        self.sequences, self.config, self.seed = sequences, config, seed
        self.first_step = first_step

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        return DataLoader(
            StepIndexedDataset(
                self.sequences,
                self.seed,
                self.config.global_batch_size,
                self.trainer.global_rank,
                self.trainer.world_size,
            ),
            sampler=range(self.first_step, self.config.max_steps),
            batch_size=None,  # an item is a batch already
            num_workers=self.config.num_workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch.to(device)
