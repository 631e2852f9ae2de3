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
