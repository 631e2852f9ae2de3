from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gptexp.config.schema import TrainerConfig
from gptexp.data.batch import Batch
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.datasets.mixed_sequences import MixedSequences
from gptexp.data.loader import DataModule
from gptexp.data.mixture_order import MixtureOrder, Phase
from gptexp.data.permutation import OrderPosition
from gptexp.loss import LossCounts
from gptexp.training.continuation import restore_order

SIZES = (5, 40, 13)
PHASES = [Phase(0, (0.5, 0.3, 0.2)), Phase(50, (0, 1, 3))]
STEPS, BATCH = 30, 6


class Numbers(SequenceDataset):
    """Sequences [source, number, epoch]; the number is also how many targets a sequence has."""

    def __init__(self, source, size):
        self.source, self.size = source, size

    def __len__(self):
        return self.size

    def batch(self, indices, epoch, global_indices):
        tokens = torch.tensor([[self.source, index, epoch] for index in indices], dtype=torch.int64)
        counts = LossCounts(targets=int(global_indices.sum()))
        tokens = tokens.reshape(-1, 3)
        return Batch(tokens, tokens, counts, examples=torch.from_numpy(indices))


def mixture(blocks=(None, None, None), seed=3):
    sources = [Numbers(number, size) for number, size in enumerate(SIZES)]
    return MixedSequences(sources, MixtureOrder(PHASES), seed, list(blocks))


def batches_of(sequences, ranks=1, start=0):
    layout = SimpleNamespace(dataset=lambda *_: sequences)
    data = DataModule(layout, None, TrainerConfig(global_batch_size=BATCH, max_steps=STEPS), 3)
    data.first_step, data.start = start, OrderPosition(0, start * BATCH)
    of_ranks = [data.batches(rank, ranks) for rank in range(ranks)]
    return [[batches[step] for batches in of_ranks] for step in range(start, STEPS)]


def rows(step):
    """Return the sequences of a global batch in the order of their positions."""
    tokens = torch.cat([batch.tokens for batch in step])
    return tokens[torch.cat([batch.examples for batch in step]).argsort()].tolist()


@pytest.mark.parametrize("blocks", [(None, None, None), (2, None, 4)])
def test_no_sequence_comes_twice_in_an_epoch_of_its_source(blocks):
    seen = [row for step in batches_of(mixture(blocks)) for row in rows(step)]
    for source, size in enumerate(SIZES):
        numbers = [number for own, number, _ in seen if own == source]
        assert numbers
        for start in range(0, len(numbers), size):
            epoch = numbers[start : start + size]
            assert len(set(epoch)) == len(epoch)
    assert len({epoch for _, _, epoch in seen}) > 1


def test_another_number_of_ranks_has_the_same_global_batches():
    alone = batches_of(mixture())
    for ranks in (2, 3, 6):
        for one, several in zip(alone, batches_of(mixture(), ranks), strict=True):
            assert rows(several) == rows(one)
            assert {batch.counts for batch in several} == {one[0].counts}
    for step in alone:
        assert step[0].counts.targets == sum(number for _, number, _ in rows(step))


def test_a_run_that_resumes_sees_what_comes_next():
    alone = [rows(step) for step in batches_of(mixture())]
    for start in (1, 8, 9, 20):
        assert [rows(step) for step in batches_of(mixture(), start=start)] == alone[start:]


def test_another_seed_and_a_new_beginning_have_another_order():
    def first(seed, epoch):
        sequences = mixture(seed=seed)
        indices = sequences.global_batch_indices(seed, OrderPosition(epoch), 40, None)
        return sequences.batch(indices, epoch, indices).tokens[:, 1].tolist()

    assert first(3, 0) == first(3, 0)
    assert len({tuple(first(seed, epoch)) for seed in (3, 4) for epoch in (0, 1)}) == 4


def test_sequences_that_come_over_a_network_are_read_ahead_by_source():
    sequences = mixture()
    asked = []

    def note(source):
        return lambda indices, _epoch: asked.extend((source, index) for index in indices.tolist())

    for source in sequences.sources:
        source.prefetch = note(source.source)
    sequences.prefetch(np.arange(0, 12, 2), 0)
    expected = sequences.batch(np.arange(0, 12, 2), 0, np.arange(12)).tokens.tolist()
    assert sorted(asked) == sorted((source, number) for source, number, _ in expected)


def test_the_phases_of_a_run_that_goes_on_with_other_weights_count_from_its_beginning():
    layout = SimpleNamespace(dataset=lambda *_: mixture())
    data = DataModule(layout, None, TrainerConfig(global_batch_size=BATCH, max_steps=STEPS), 3)
    restore_order(data, {"step": 5, "order": {"epoch": 2, "offset": 7}}, is_same_data=False)
    assert data.position(6) == OrderPosition(3, 6 * BATCH)
