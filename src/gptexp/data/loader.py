"""Batches of a run: training batches by optimizer step, held-out batches one after the other.

A training batch is a function of (seed, position in the order of sequences, rank). So a run resumes anywhere, with any
number of ranks and data workers, and saves nothing but that position.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property
from typing import Protocol

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from gptexp.config import schema
from gptexp.data import prefetcher
from gptexp.data.batch import Batch
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.mixed_store import MixedStore
from gptexp.data.permutation import GROUP_BLOCKS, OrderPosition
from gptexp.data.prefetcher import Prefetcher
from gptexp.data.read_ahead import ReadAhead
from gptexp.data.token_store import TokenStore

AHEAD_BLOCKS = GROUP_BLOCKS // 2  # of the order by blocks that are read ahead


class Layout(Protocol):
    """The part of a task's layout that this file calls."""

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset: ...


class DataModule(L.LightningDataModule):
    """The batches of a run. Lightning sees those from the current step to the last one as one epoch.

    Attributes:
        first_step, start: a step, and the position at which its global batch begins. A run that continues sets them.
        held_out: the batches of each validation, where the run validates.
    """

    def __init__(
        self,
        layout: Layout,
        store: TokenStore,
        config: schema.TrainerConfig,
        seed: int,
        shuffle_block: int | None = None,
    ) -> None:
        super().__init__()
        self.shuffle_block = shuffle_block
        self.layout, self.store, self.config, self.seed = layout, store, config, seed
        self.first_step, self.start = 0, OrderPosition()
        self.held_out: HeldOutDataset | None = None

    @cached_property
    def sequences(self) -> SequenceDataset:
        """The sequences of the training split."""
        return self.layout.dataset(self.store, "train", self.seed)

    def position(self, step: int) -> OrderPosition:
        """Return the position at which the global batch of `step` begins."""
        count = (step - self.first_step) * self.config.global_batch_size
        return self.start.advance(count, len(self.sequences))

    def batches(self, rank: int = 0, ranks: int = 1) -> "StepIndexedDataset":
        """Return the training batches of a rank, by step."""
        size = self.config.global_batch_size
        return StepIndexedDataset(
            self.sequences,
            self.seed,
            size,
            rank,
            ranks,
            self.first_step,
            self.start,
            self.shuffle_block,
        )

    def train_dataloader(self) -> DataLoader | Prefetcher | ReadAhead[Batch]:
        assert self.trainer is not None
        count, module = self.config.processes_per_sequence, self.trainer.lightning_module
        rank, ranks = self.trainer.global_rank // count, self.trainer.world_size // count
        steps = range(module.step, self.config.max_steps)
        loader: DataLoader | ReadAhead[Batch] = DataLoader(
            self.batches(rank, ranks),
            sampler=steps,
            batch_size=None,  # an item is a batch already
            num_workers=self.config.num_workers,
        )
        if not self.sequences.is_local:
            every = self.config.val_every

            def read_held_out() -> None:
                if self.held_out:
                    batches = self.held_out.with_largest_batch(module.micro_batch_size)
                    for number in range(rank, len(batches), ranks):
                        batches[number]

            validated = {step for step in steps if (step + 1) % every == 0 or step == steps[-1]}
            loader = ReadAhead(
                BatchesAfter(loader, steps, validated, read_held_out), module.signals
            )
        device = self.trainer.strategy.root_device
        if device.type not in prefetcher.DEVICES:
            return loader
        return Prefetcher(loader, module.prepare_batch, device)

    def validation_batches(self, batch_size: int) -> "HeldOutDataset | None":
        """Return the batches of each validation, with about `trainer.val_tokens`; None without such a split."""
        if not self.store.has("val"):
            return None
        return held_out_batches(self.layout, self.store, "val", batch_size, self.config.val_tokens)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Leave the batch on the CPU: its micro-batches move to the device."""
        return batch


class BatchesAfter(Iterable[Batch]):
    """Iterates over the batches of steps, and calls a function before it gives those of some of the steps.

    The function reads the held-out batches of a validation. So a server that is gone stops the run before the step that
    the validation follows, and the run that continues repeats nothing.
    """

    def __init__(
        self,
        loader: Iterable[Batch],
        steps: range,
        validated: Collection[int],
        read_held_out: Callable[[], None],
    ) -> None:
        self.loader, self.steps = loader, steps
        self.validated, self.read_held_out = validated, read_held_out

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        for step, batch in zip(self.steps, self.loader, strict=True):
            if step in self.validated:
                self.read_held_out()
            yield batch


class StepIndexedDataset(Dataset):
    """Item `step` is this rank's part of the global batch of that optimizer step.

    The batch of `first_step` begins at the position `start`.
    """

    def __init__(
        self,
        sequences: SequenceDataset,
        seed: int,
        global_batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        first_step: int = 0,
        start: OrderPosition = OrderPosition(),  # noqa: B008 (frozen)
        shuffle_block: int | None = None,
    ) -> None:
        self.sequences, self.seed, self.global_batch_size = sequences, seed, global_batch_size
        self.rank, self.ranks = rank, ranks
        self.first_step, self.start, self.shuffle_block = first_step, start, shuffle_block
        self.steps_ahead = max(2, AHEAD_BLOCKS * (shuffle_block or 0) // global_batch_size)
        self.steps_together = max(1, (shuffle_block or 0) // global_batch_size)
        self.prefetched = first_step  # steps before it are read, or being read

    def __getitem__(self, step: int) -> Batch:
        if not self.sequences.is_local:
            self._prefetch(step)
        epoch, indices = self._order(step)
        return self.sequences.batch(indices[self.rank :: self.ranks], epoch, indices)

    def _order(self, step: int, steps: int = 1) -> tuple[int, NDArray[np.int64]]:
        """Return the epoch in which the global batch of a step begins, and the indices of it and of the next ones."""
        size = self.global_batch_size
        position = self.start.advance((step - self.first_step) * size, len(self.sequences))
        return position.epoch, self.sequences.global_batch_indices(
            self.seed, position, steps * size, self.shuffle_block
        )

    def _prefetch(self, step: int) -> None:
        """Begin to read the batches of this step and of the next ones, first its own."""
        begin, end = max(self.prefetched, step), step + self.steps_ahead
        while begin < end:
            steps = 1 if begin == step else min(end - begin, self.steps_together)
            epoch, indices = self._order(begin, steps)
            self.sequences.prefetch(indices[self.rank :: self.ranks], epoch)
            begin += steps
        self.prefetched = end


class HeldOutDataset(Dataset):
    """Sequences of a held-out split, each in exactly one batch, in the order of the split.

    Args:
        count: the number of sequences, spread evenly over the split; None: all of them.
    """

    def __init__(
        self, sequences: SequenceDataset, batch_size: int, count: int | None = None
    ) -> None:
        self.sequences, self.batch_size = sequences, batch_size
        self.count = len(sequences) if count is None else count

    @property
    def total(self) -> int:
        """The number of sequences of the split."""
        return len(self.sequences)

    @property
    def is_sample(self) -> bool:
        return self.count < self.total

    def with_batch_size(self, batch_size: int) -> "HeldOutDataset":
        """Return the same sequences in batches of another size."""
        return HeldOutDataset(self.sequences, batch_size, self.count)

    def with_largest_batch(self, size: int | None) -> "HeldOutDataset":
        """Return the same sequences in batches of at most this size; None: any."""
        return self.with_batch_size(min(self.batch_size, size or self.batch_size))

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch_size)

    def __getitem__(self, number: int) -> Batch:
        if number >= len(self):
            raise IndexError(number)
        start = number * self.batch_size
        end = min(start + self.batch_size, self.count)
        indices = np.arange(start, end, dtype=np.int64) * len(self.sequences) // self.count
        return self.sequences.batch(indices, 0, indices)


class MixedHeldOutDataset(HeldOutDataset):
    """The held-out sequences of several sources, one source after the other; a batch is of one source.

    Args:
        parts: by the name of the source.
        weights: of the sources in the mean loss, by name; if those in `parts` are all 0, they count alike.
    """

    def __init__(self, parts: dict[str, HeldOutDataset], weights: dict[str, float]) -> None:
        self.parts = parts
        self.batch_size = next(iter(parts.values())).batch_size
        self.count = sum(part.count for part in parts.values())
        total = sum(weights[name] for name in parts)
        alike = 1 / len(parts)
        self.weights = {name: weights[name] / total if total else alike for name in parts}

    @property
    def total(self) -> int:
        return sum(part.total for part in self.parts.values())

    def with_batch_size(self, batch_size: int) -> "MixedHeldOutDataset":
        parts = {name: part.with_batch_size(batch_size) for name, part in self.parts.items()}
        return MixedHeldOutDataset(parts, self.weights)

    def batches_of_sources(self) -> dict[str, slice]:
        """Return which of the batches are those of each source."""
        ends = np.cumsum([len(part) for part in self.parts.values()]).tolist()
        starts = [0, *ends]
        return {
            name: slice(*span)
            for name, span in zip(self.parts, zip(starts, ends, strict=False), strict=True)
        }

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def __getitem__(self, number: int) -> Batch:
        for part in self.parts.values():
            if number < len(part):
                return part[number]
            number -= len(part)
        raise IndexError(number)


def held_out_batches(
    layout: Layout, store: TokenStore, split: str, batch_size: int, max_tokens: int | None
) -> HeldOutDataset:
    """Return the batches of a split, or of a part of its sequences with about `max_tokens`.

    In a mixture, each source that has the split has an equal part of these tokens.
    """
    if isinstance(store, MixedStore):
        sources = store.sources_with(split)
        share = max_tokens and max(1, max_tokens // len(sources))
        parts = {
            name: held_out_batches(layout, source, split, batch_size, share)
            for name, source in sources.items()
        }
        return MixedHeldOutDataset(parts, store.weights)
    sequences = layout.dataset(store, split, None)
    total = len(store.tokens(split)) + len(store.features(split))
    count = None
    if max_tokens is not None and max_tokens < total:
        count = max(1, len(sequences) * max_tokens // total)
    return HeldOutDataset(sequences, batch_size, count)
