import numpy as np
import pytest

from gptexp.data import permutation


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 4097])
def test_an_epoch_holds_every_example_once(size):
    assert sorted(permutation.feistel_permutation(np.arange(size), size, seed=3, epoch=0)) == list(
        range(size)
    )


def test_steps_across_epochs_are_a_function_of_seed_and_step():
    one = [permutation.global_batch(seed=1, step=step, batch=6, examples=10) for step in range(5)]
    assert sorted(np.concatenate(one)) == sorted(list(range(10)) * 3)
    assert (permutation.global_batch(1, 3, 6, 10) == one[3]).all()
    assert not all(
        (permutation.global_batch(2, step, 6, 10) == one[step]).all() for step in range(5)
    )


def test_epochs_differ_and_look_random():
    first, second = (
        permutation.feistel_permutation(np.arange(10_000), 10_000, 1, epoch) for epoch in (0, 1)
    )
    assert (first == second).mean() < 0.01
    assert abs(np.corrcoef(first, np.arange(10_000))[0, 1]) < 0.05
