"""Batches for Lightning: the training set is indexed by optimizer step, so nothing has to be saved to resume."""

from collections.abc import Callable

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from gptexp.config import schema
from gptexp.data.batch import Batch
from gptexp.data.batches import HeldOutDataset, StepIndexedDataset
from gptexp.data.datasets.dataset import SequenceDataset


class DataModule(L.LightningDataModule):
    """`step` tells where training stands; one Lightning epoch is the stretch from there to the next validation.

    `held_out_batch` tells how many sequences a validation batch has: fewer, when memory has turned out to be short.
    """

    def __init__(
        self,
        train: SequenceDataset,
        val: SequenceDataset | None,
        trainer: schema.TrainerConfig,
        seed: int,
        step: Callable[[], int],
        held_out_batch: Callable[[], int],
    ) -> None:
        super().__init__()
        self.sequences, self.held_out = train, val
        self.settings, self.seed, self.step, self.held_out_batch = (
            trainer,
            seed,
            step,
            held_out_batch,
        )

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        settings = self.settings
        here = self.step()
        until = min(settings.max_steps, (here // settings.val_every + 1) * settings.val_every)
        steps = StepIndexedDataset(
            self.sequences,
            self.seed,
            settings.global_batch_size,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return self._loader(steps, range(here, until))

    def val_dataloader(self) -> DataLoader | list:
        assert self.trainer is not None
        if self.held_out is None:
            return []
        batches = HeldOutDataset(
            self.held_out, self.held_out_batch(), self.trainer.global_rank, self.trainer.world_size
        )
        return self._loader(batches, range(len(batches)))

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch.to(device)

    def _loader(self, dataset: Dataset, order_of_items: range) -> DataLoader:
        return DataLoader(
            dataset,
            sampler=order_of_items,
            batch_size=None,  # an item is a batch already
            num_workers=self.settings.num_workers,
            pin_memory=self.trainer is not None
            and self.trainer.strategy.root_device.type == "cuda",
        )
