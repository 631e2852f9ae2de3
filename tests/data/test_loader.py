import random
from threading import Event, Timer
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from gptexp.config.schema import TrainerConfig
from gptexp.data.batch import Batch
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.loader import BatchesAfter, DataModule, HeldOutDataset, StepIndexedDataset
from gptexp.data.permutation import OrderPosition, global_indices
from gptexp.data.read_ahead import ReadAhead
from gptexp.data.remote_files import RemoteDataError
from gptexp.loss import LossCounts
from gptexp.tasks.prepare import prepare
from gptexp.training.continuation import restore_order


class Numbers(SequenceDataset):
    """Sequences that are their own numbers, and a layout that returns them."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def batch(self, indices, epoch, global_indices):
        examples = torch.from_numpy(indices)
        return Batch(examples[:, None], examples[:, None], LossCounts(), examples=examples)

    def dataset(self, store, split, seed):
        return self


def train(sequences, state, batch_size, ranks, workers, steps, block):
    """Return the sequences of `steps` steps in their order, and the state of a checkpoint after them."""
    config = TrainerConfig(
        global_batch_size=batch_size, num_workers=workers, max_steps=state["step"] + steps
    )
    parts = []
    for rank in range(ranks):
        data = DataModule(sequences, None, config, seed=3, shuffle_block=block)
        restore_order(data, state, is_same_data=True)
        data.trainer = SimpleNamespace(
            global_rank=rank,
            world_size=ranks,
            lightning_module=SimpleNamespace(step=state["step"]),
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
        )
        parts.append([batch.examples.numpy() for batch in data.train_dataloader()])
    seen = [np.stack(of_step, axis=1).ravel() for of_step in zip(*parts, strict=True)]
    position = data.position(config.max_steps)
    order = {"epoch": position.epoch, "offset": position.offset}
    return seen, {"step": config.max_steps, "order": order}


@pytest.mark.parametrize("seed", range(40))
def test_no_sequence_is_repeated_or_skipped_whatever_changes_when_a_run_continues(seed):
    rng = random.Random(seed)
    size, block = rng.randint(1, 60), rng.choice([None, 1, 3])
    state = {"step": 0, "order": {"epoch": 0, "offset": 0}}
    seen = []
    for _ in range(rng.randint(2, 5)):
        ranks = rng.choice([1, 1, 2, 3, 4])
        workers = 2 if seed < 2 else 0
        batch_size, steps = ranks * rng.randint(1, 12), rng.randint(1, 9)
        more, state = train(Numbers(size), state, batch_size, ranks, workers, steps, block)
        seen += more
    numbers = np.concatenate(seen)
    for start in range(0, len(numbers), size):
        epoch = numbers[start : start + size]
        assert len(set(epoch)) == len(epoch)
    assert state["order"] == {"epoch": len(numbers) // size, "offset": len(numbers) % size}
    uninterrupted = global_indices(3, OrderPosition(), len(numbers), size, block)
    assert numbers.tolist() == uninterrupted.tolist()


def test_other_data_begin_with_an_epoch_of_their_own():
    state = {"step": 5, "order": {"epoch": 2, "offset": 7}}
    data = DataModule(Numbers(4), None, TrainerConfig(global_batch_size=4), seed=3)
    restore_order(data, state, is_same_data=False)
    assert sorted(data.batches()[5].examples.tolist()) == [0, 1, 2, 3]


def test_each_epoch_is_a_permutation_of_its_own_that_follows_from_the_seed():
    def batch(start, seed=1):
        return global_indices(seed, OrderPosition().advance(start, 10), 6, 10).tolist()

    steps = [batch(start) for start in range(0, 30, 6)]
    assert sorted(np.concatenate(steps)) == sorted(list(range(10)) * 3)
    assert steps == [batch(start) for start in range(0, 30, 6)]
    assert steps != [batch(start, seed=2) for start in range(0, 30, 6)]
    epochs = np.concatenate(steps).reshape(3, 10).tolist()
    assert len({tuple(epoch) for epoch in epochs}) == 3
    with pytest.raises(ValueError, match="no sequences"):
        global_indices(1, OrderPosition(), 6, 0)


@pytest.fixture
def layout_and_store(translation):
    data = prepare(translation())
    return data.task.layout, data.store


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_global_batch_and_know_its_counts(ranks, layout_and_store):
    layout, store = layout_and_store
    sequences = layout.dataset(store, "train", 1)
    one = StepIndexedDataset(sequences, 1, 8)[3]
    parts = [StepIndexedDataset(sequences, 1, 8, rank, ranks)[3] for rank in range(ranks)]
    assert {part.counts for part in parts} == {one.counts}
    indices = np.stack([part.examples.numpy() for part in parts], axis=1).ravel()
    assert indices.tolist() == one.examples.tolist()


def test_a_sample_of_held_out_sequences_is_spread_evenly(layout_and_store):
    layout, store = layout_and_store
    sequences = layout.dataset(store, "train", None)
    batches = list(HeldOutDataset(sequences, 3, 7))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    examples = np.concatenate([batch.examples for batch in batches])
    assert examples[0] == 0
    steps = np.diff([*examples, len(sequences)])
    assert steps.max() - steps.min() <= 1


def test_held_out_batches_hold_every_sequence_once(layout_and_store):
    layout, store = layout_and_store
    sequences = layout.dataset(store, "val", None)
    batches = list(HeldOutDataset(sequences, 3))
    assert len(sequences) % 3
    assert np.concatenate([b.examples for b in batches]).tolist() == list(range(len(sequences)))
    assert sum(batch.counts.targets for batch in batches) == sum(
        int((batch.targets >= 0).sum()) for batch in batches
    )


class Stops:
    received = None

    def request(self, name, details, is_failure):
        self.received = details


class FailingAt(Dataset):
    """Item 3 comes from a server that is gone."""

    def __len__(self):
        return 6

    def __getitem__(self, number):
        if number == 3:
            raise RemoteDataError("data.path=http://host: no answer")
        return number


@pytest.mark.parametrize("workers", [0, 1])
def test_the_items_before_a_failure_to_read_are_there_and_the_last_one_stops_the_run(workers):
    stops, seen = Stops(), []
    for item in ReadAhead(
        DataLoader(FailingAt(), batch_size=None, num_workers=workers, prefetch_factor=None), stops
    ):
        assert (stops.received is None) == (item < 2)
        seen.append(item)
    assert seen == [0, 1, 2]
    assert stops.received == "data.path=http://host: no answer"


def test_held_out_data_that_cannot_be_read_stop_the_run_before_the_step_that_they_follow():
    stops, seen, failures = Stops(), [], [RemoteDataError("gone"), None]

    def read_held_out():
        if failure := failures.pop():
            raise failure

    batches = BatchesAfter(range(6), range(10, 16), {11, 14}, read_held_out)
    for item in ReadAhead(batches, stops):
        seen.append(item)
    assert seen == [0, 1, 2, 3]  # and not item 4, of step 14
    assert stops.received == "gone"


def test_a_signal_ends_the_wait_for_a_server():
    stops, gone = Stops(), Event()

    def items():
        yield 0
        Timer(0.1, stops.request, ["SIGTERM", "", False]).start()
        gone.wait(60)

    assert list(ReadAhead(items(), stops)) == [0]
    gone.set()


def test_another_error_of_a_loader_is_raised():
    def items():
        yield 0
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        list(ReadAhead(items(), Stops()))
