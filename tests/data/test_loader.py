import numpy as np
import pytest

from gptexp.data.loader import HeldOutDataset, StepIndexedDataset, global_indices
from gptexp.tasks.prepare import prepare


def test_steps_across_epochs_are_a_function_of_seed_and_step():
    steps = [global_indices(seed=1, step=step, batch_size=6, sequences=10) for step in range(5)]
    assert sorted(np.concatenate(steps)) == sorted(list(range(10)) * 3)
    assert (global_indices(1, 3, 6, 10) == steps[3]).all()
    assert not all((global_indices(2, step, 6, 10) == steps[step]).all() for step in range(5))
    with pytest.raises(ValueError, match="no sequences"):
        global_indices(1, 0, 6, 0)


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


def test_held_out_batches_hold_every_sequence_once(layout_and_store):
    layout, store = layout_and_store
    sequences = layout.dataset(store, "val", None)
    batches = list(HeldOutDataset(sequences, 3))
    assert len(sequences) % 3
    assert np.concatenate([b.examples for b in batches]).tolist() == list(range(len(sequences)))
    assert sum(batch.counts.targets for batch in batches) == sum(
        int((batch.targets >= 0).sum()) for batch in batches
    )
