import random

import numpy as np
import pytest

from gptexp.data.token_ranges import MappedTokens


@pytest.mark.parametrize("seed", range(5))
def test_ranges_of_many_files_are_those_of_one_array(seed):
    rng = random.Random(seed)
    parts = [np.arange(rng.choice([0, 1, 7]), dtype="<u2") + 10 * i for i in range(6)]
    array, tokens = np.concatenate(parts), MappedTokens(parts)
    assert len(tokens) == len(array)
    assert tokens.dtype == array.dtype
    starts = np.array([rng.randint(0, len(array)) for _ in range(40)])
    lengths = np.array([rng.randint(0, len(array)) for _ in range(40)])
    ranges = zip(tokens.read(starts, lengths), starts, lengths, strict=True)
    for piece, start, length in ranges:
        assert piece.dtype == array.dtype
        assert piece.tolist() == array[start : start + length].tolist()
    assert tokens[:].tolist() == array.tolist()
    assert tokens[-3:].tolist() == array[-3:].tolist()


def test_a_range_inside_one_file_is_not_copied():
    parts = [np.arange(5), np.arange(5)]
    [piece] = MappedTokens(parts).read(np.array([6]), np.array([3]))
    assert np.shares_memory(piece, parts[1])


def test_a_step_is_refused():
    with pytest.raises(ValueError, match="without a step"):
        MappedTokens([np.arange(5)])[::2]
