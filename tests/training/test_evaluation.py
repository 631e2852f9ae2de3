import math

import numpy as np
import pytest
import torch

from gptexp.checkpoints.load_model import build_model
from gptexp.data.loader import HeldOutDataset
from gptexp.distributed.process_group import ProcessGroup
from gptexp.generation import gpu_decoder
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.prepare import prepare
from gptexp.training.evaluation import (
    answer_batch_size,
    bootstrap_intervals,
    compute_batch_losses,
    compute_outputs,
    describe_split,
)


class OneOfMany(ProcessGroup):
    """A rank whose sums hold its own batches alone."""

    def all_reduce(self, tensor):
        return tensor


@pytest.fixture
def model_and_data(translation):
    config = translation("data.val_fraction=0.2", "model.dropout=0.5")
    data = prepare(config)
    torch.manual_seed(0)
    return build_model(config, data.store.tokenizer.vocab_size), data


def held_out(data, batch_size=8):
    return HeldOutDataset(data.task.layout.dataset(data.store, "val", None), batch_size)


def test_the_loss_of_a_split_does_not_depend_on_its_batches_and_uses_no_dropout(model_and_data):
    model, data = model_and_data
    model.train()
    first, counts = compute_batch_losses(model, held_out(data), "32").total()
    again, _ = compute_batch_losses(model, held_out(data), "32").total()
    other, other_counts = compute_batch_losses(model, held_out(data, 3), "32").total()
    assert model.training
    assert torch.equal(first.targets, again.targets)
    torch.testing.assert_close(first.targets, other.targets, atol=0, rtol=1e-6)
    assert counts == other_counts
    assert not first.targets.requires_grad


@pytest.mark.parametrize("ranks", [2, 3, 50])
def test_ranks_share_the_batches_and_make_equally_many_passes(ranks, model_and_data, monkeypatch):
    model, data = model_and_data
    batches = held_out(data)
    total, counts = compute_batch_losses(model, batches, "32").total()
    passes = []
    loss = type(model).loss
    monkeypatch.setattr(
        type(model), "loss", lambda self, **inputs: (passes.append(1), loss(self, **inputs))[1]
    )
    parts = [
        compute_batch_losses(model, batches, "32", OneOfMany(r, ranks)).total()
        for r in range(ranks)
    ]
    assert len(passes) == ranks * -(-len(batches) // ranks)
    assert sum(part_counts.targets for _, part_counts in parts) == counts.targets
    sums = sum(float(part.targets) for part, _ in parts)
    assert sums == pytest.approx(float(total.targets), rel=1e-12)


def test_outputs_come_in_the_order_of_their_inputs(model_and_data):
    model, data = model_and_data
    model.eval()
    inputs = ["a stone", "the river falls over the stone", "a", "the house of light and road"] * 9
    tokenizer = data.store.tokenizer
    outputs = compute_outputs(model, data.task, tokenizer, inputs)
    assert outputs[:4] == outputs[4:8]
    assert outputs == [compute_outputs(model, data.task, tokenizer, [x])[0] for x in inputs]


def test_a_gpu_answers_more_inputs_at_once_so_long_as_each_rank_has_a_share(
    model_and_data, monkeypatch
):
    model, _ = model_and_data
    assert answer_batch_size(model, 1000, ranks=1) == 32
    monkeypatch.setattr(gpu_decoder, "DEVICE", "cpu")
    assert [answer_batch_size(model, 400, ranks) for ranks in (1, 2, 8)] == [256, 200, 50]
    assert answer_batch_size(model, 10, ranks=1) == 32
    assert [answer_batch_size(model, 400, 1, num_beams) for num_beams in (4, 5, 300)] == [64, 51, 1]


def test_inputs_without_a_length_are_answered_in_their_order(model_and_data):
    model, data = model_and_data
    data.task.answerer.answer = lambda *args: [x + 1 for x in args[2]]
    assert compute_outputs(model, data.task, data.store.tokenizer, [3, 1, 2]) == [4, 2, 3]


@pytest.mark.parametrize(
    "values", [[0.5], [0.0, 1.0, 0.0], [0.0] * 50, [math.nan] * 20, [1.0, *[math.nan] * 30]]
)
def test_an_interval_is_not_shown_of_nothing(values):
    assert bootstrap_intervals({"x": values}, ids(values)) == {}


def test_copies_of_examples_do_not_make_an_interval_narrower():
    scores = [0.0, 1.0] * 10
    single = bootstrap_intervals({"x": scores}, ids(scores))
    rng = np.random.default_rng(0)
    means = [np.array(scores)[rng.integers(20, size=20)].mean() for _ in range(2000)]
    assert list(single.values()) == np.quantile(means, (0.025, 0.975)).tolist()
    assert bootstrap_intervals({"x": scores * 5}, ids(scores) * 5) == single
    assert bootstrap_intervals({"x": scores}, ids(scores[:5]) * 4) == {}


def ids(values):
    return [str(number) for number in range(len(values))]


def test_undefined_scores_do_not_count_in_an_interval():
    scores = [0.0, 1.0] * 10
    defined, some = (bootstrap_intervals({"x": x}, ids(x)) for x in (scores, [*scores, math.nan]))
    assert defined == some != {}


def test_a_split_that_says_little_is_described():
    pairs = [EvalExample(str(i), "ja") for i in range(12)]
    assert describe_split("test", None, 5000) == []
    assert "only 57 tokens to predict" in describe_split("test", None, 57)[0]
    assert "only 3 examples of the val split are scored" in describe_split("val", pairs[:3], 9)[0]
    assert "all 12 references of the test split are the same" in describe_split("test", pairs, 9)[0]
    mixed = [*pairs, EvalExample("x", "nein")]
    assert describe_split("test", mixed, 9) == []


def test_an_interval_holds_the_mean_and_is_narrower_with_more_examples():
    few, many = (
        bootstrap_intervals({"x": scores}, ids(scores))
        for scores in ([0.0, 1.0] * 10, [0.0, 1.0] * 1000)
    )
    assert few["low/x"] < many["low/x"] < 0.5 < many["high/x"] < few["high/x"]
