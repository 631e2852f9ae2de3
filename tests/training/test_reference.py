from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from models import a_model

from gptexp.data.datasets.preference_pairs import PairTokens, PreferencePairs
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import UserError
from gptexp.loss import PreferenceLoss
from gptexp.tasks.reference import Reference
from gptexp.training.reference import _load_if_unchanged, compute_reference


class DrawnPairs(PreferencePairs):
    """Five pairs of unequal lengths."""

    def __init__(self):
        rng = np.random.default_rng(0)
        lengths = [(3, 2, 5), (1, 4, 4), (7, 1, 2), (2, 2, 2), (5, 6, 3)]
        self.rows = [PairTokens(*(rng.integers(50, size=n) for n in sizes)) for sizes in lengths]
        self.index = np.zeros(5, [("length", int), ("prefix", int), ("targets", int)])
        self.index["length"] = [sum(map(len, row)) for row in self.rows]
        self.pad, self.preference, self.reference = 1, PreferenceLoss(), None

    def pair(self, index):
        return self.rows[index]


@pytest.mark.parametrize("size", [1, 2], ids=["of one", "of two"])
def test_ranks_share_batches_and_together_have_the_log_probabilities_of_all_pairs(
    size, monkeypatch
):
    model, pairs = a_model(), DrawnPairs()
    expected = compute_reference(model, pairs, np.arange(5), "32")
    assert (expected < 0).all()
    some = compute_reference(model, pairs, np.array([1, 4]), "32")
    np.testing.assert_allclose(some[[1, 4]], expected[[1, 4]], atol=1e-4)
    assert np.isnan(some[[0, 2, 3]]).all()
    parts = []
    monkeypatch.setattr(ProcessGroup, "all_reduce", lambda _, table: parts.append(table) or table)
    for rank in range(2):
        compute_reference(model, pairs, np.arange(5), "32", ProcessGroup(rank, 2), size)
    assert all((part == 0).any() for part in parts)  # neither rank has computed all
    torch.testing.assert_close(sum(parts), torch.from_numpy(expected), atol=1e-4, rtol=0)


def test_initial_weights_that_are_gone_are_reported_once(capsys):
    def load(is_sharded):
        assert not is_sharded
        raise UserError("init=there: its weights have changed")

    reference = Reference({}, partial(_load_if_unchanged, load, True), nullcontext)
    assert reference.model(is_sharded=False) is None
    assert reference.model(is_sharded=False) is None
    error = capsys.readouterr().err
    assert error.count("scores without kl, which compares the model with its initial weights") == 1
    assert "init=there: its weights have changed" in error
