import numpy as np
import pytest

from gptexp.data import permutation


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 4097])
def test_an_epoch_holds_every_example_once(size):
    assert sorted(permutation.feistel_permutation(np.arange(size), size, seed=3, epoch=0)) == list(
        range(size)
    )


def test_epochs_differ_and_look_random():
    first, second = (
        permutation.feistel_permutation(np.arange(10_000), 10_000, 1, epoch) for epoch in (0, 1)
    )
    assert (first == second).mean() < 0.01
    assert abs(np.corrcoef(first, np.arange(10_000))[0, 1]) < 0.05


@pytest.mark.parametrize("block", [1, 4, 7])
@pytest.mark.parametrize("size", [1, 3, 64 * 4, 64 * 4 + 3, 3 * 64 * 4 + 4 * 5 + 1, 2000])
def test_an_epoch_by_blocks_holds_every_example_once(size, block):
    order = permutation.block_permutation(np.arange(size), size, 3, 0, block)
    assert sorted(order) == list(range(size))
    batches = [
        permutation.block_permutation(positions, size, 3, 0, block)
        for positions in np.array_split(np.arange(size), 5)
    ]
    assert np.concatenate(batches).tolist() == order.tolist()


def test_the_examples_of_a_block_are_used_up_within_one_group():
    size, block = 50_000, 16
    order = permutation.block_permutation(np.arange(size), size, 1, 0, block)
    position = np.argsort(order)
    group = block * permutation.GROUP_BLOCKS
    for start in range(0, size, block):
        places = position[start : start + block]
        assert places.max() // group == places.min() // group
        assert np.ptp(places) > block  # and not one after the other
    assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < 0.05
    assert len(np.unique(order[:group] // block)) == permutation.GROUP_BLOCKS
    other = permutation.block_permutation(np.arange(size), size, 1, 1, block)
    assert (order == other).mean() < 0.01
