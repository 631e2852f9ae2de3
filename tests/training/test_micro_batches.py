"""A micro-batch needs no number from the device: what it needs of them was computed on the CPU before."""

import pytest
import torch
from conftest import likeness
from lightning.fabric.utilities import move_data_to_device
from models import GPT2, SHAPE, a_model
from test_out_of_memory import limit_sequences
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

from gptexp.data import prefetcher
from gptexp.data.batch import FEATURE, IGNORE, Batch
from gptexp.loss import LossCounts
from gptexp.model import Transformer, TransformerConfig, token_loss
from gptexp.model.features import CONTINUE
from gptexp.run import run
from gptexp.training.micro_batches import loss_inputs
from gptexp.training.module import TrainModule

DEVICE = torch.device("meta")  # any that is not the CPU
ROWS, LENGTH, COUNTS = 4, 12, LossCounts(20, 4, 40)
LENGTHS = torch.tensor([7, 12, 9, 10])
PREFIX = torch.tensor([3, 5, 2, 4])


def a_batch(**fields):
    torch.manual_seed(0)
    tokens = torch.randint(50, (ROWS, LENGTH))
    return Batch(**{"tokens": tokens, "targets": tokens.roll(-1, 1), "counts": COUNTS, **fields})


def padded(start=0):
    """Targets between `start` and the lengths."""
    batch, positions = a_batch(), torch.arange(LENGTH)[None]
    is_target = (positions >= start) & (positions < LENGTHS[:, None])
    return a_batch(targets=batch.targets.masked_fill(~is_target, IGNORE), lengths=LENGTHS)


def completions():
    batch = padded(PREFIX[:, None] - 1)
    batch.prefix = PREFIX
    return batch


def with_features(predicted):
    batch = completions()
    rows = torch.tensor([2, 1, 0, 2])
    positions = torch.arange(LENGTH)[None]
    if predicted:
        batch.prefix = LENGTHS - rows
        is_row = (positions >= batch.prefix[:, None]) & (positions < LENGTHS[:, None])
        batch.targets = torch.full_like(batch.targets, IGNORE)
        batch.targets[is_row] = CONTINUE
        batch.targets[:, -1] = 1
        rows = (batch.targets == CONTINUE).sum(dim=1)
        batch.masked_rows = torch.rand(ROWS, 3) < 0.5
    else:
        is_row = positions < rows[:, None]
    batch.tokens = batch.tokens.masked_fill(is_row, FEATURE)
    batch.features = torch.randint(4, (ROWS, 3, 6), dtype=torch.uint8)
    return batch


FEATURES = {"feature_size": 6, "feature_bins": 4}
CASES = {
    "windows": ({}, a_batch),
    "documents": ({}, lambda: a_batch(documents=torch.arange(LENGTH).expand(ROWS, -1) // 5)),
    "padded": ({}, padded),
    "a completion": ({"arch": "prefix", "dropout": 0.1}, completions),
    "an encoder with decoder": ({"arch": "encoder_decoder"}, completions),
    "gpt2 with a window": ({**GPT2, "window": 4}, completions),
    "labels and tags": (
        {"arch": "encoder", "num_sequence_classes": 2, "num_token_classes": 50},
        lambda: a_batch(lengths=LENGTHS, prefix=PREFIX, labels=torch.tensor([0, 1, 1, 0])),
    ),
    "embedded features": (FEATURES, lambda: with_features(predicted=False)),
    "predicted features": (
        {**FEATURES, "predicts_features": True},
        lambda: with_features(predicted=True),
    ),
}


@pytest.mark.parametrize("chunked", [False, True], ids=["", "in chunks"])
@pytest.mark.parametrize(("switches", "make"), CASES.values(), ids=CASES.keys())
def test_a_micro_batch_never_waits_for_the_device(switches, make, chunked, monkeypatch):
    """Fake tensors have no values: what would need one raises."""
    if chunked:
        monkeypatch.setattr(token_loss, "CPU_LOGITS", (200, 200))
    batch, model = make(), a_model(**switches).train()
    expected = model.loss(**batch.inputs()).mean(COUNTS)
    inputs = loss_inputs(model, batch, DEVICE)
    assert torch.equal(model.eval().loss(**inputs)[0], model.loss(**batch.inputs())[0])
    with FakeTensorMode() as mode:
        fake = a_model(**switches).train()
        sums = fake.loss(**tree_map_only(torch.Tensor, mode.from_tensor, inputs))
        loss = sums.mean(COUNTS)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(fake.parameters(), 1.0)
    assert loss.shape == expected.shape


def test_the_order_and_the_rows_are_those_of_masks():
    batch, model = completions(), a_model()
    index = model.index(batch.tokens, batch.targets, None, None)
    assert torch.equal(batch.targets.flatten()[index.targets], batch.targets[batch.targets >= 0])
    assert (
        model.index(
            *(a_batch().inputs()[name] for name in ("tokens", "targets", "prefix", "features"))
        ).targets
        is None
    )
    index = a_model(arch="encoder_decoder").index(batch.tokens, batch.targets, PREFIX, None)
    assert (index.source_size, index.target_size) == (5, 11)


def test_a_loss_of_a_subclass_needs_no_index():
    class Plain(Transformer):
        def loss(self, tokens, targets, documents, prefix, lengths, labels, features, masked_rows):
            return super().loss(tokens, targets)

    inputs = loss_inputs(Plain(TransformerConfig(**SHAPE)), a_batch(), DEVICE)
    assert "index" not in inputs
    assert "index" in loss_inputs(a_model(), a_batch(), DEVICE)
    moved = move_data_to_device(loss_inputs(a_model(), padded(), DEVICE), DEVICE)
    assert moved["tokens"].device == moved["index"].targets.device == DEVICE


def test_batches_that_are_cut_ahead_train_the_same_model(translation, monkeypatch):
    """Memory suffices for 5 sequences: a batch that was cut ahead for more is cut again."""
    limit_sequences(monkeypatch, 5)
    plain = likeness(run(translation()))
    prepare, cut = TrainModule.prepare_batch, []

    def prepare_batch(self, batch):
        cut.append(prepare(self, batch))
        if len(cut) % 2 == 0:
            cut[-1].size = 7
        return cut[-1]

    monkeypatch.setattr(TrainModule, "prepare_batch", prepare_batch)
    monkeypatch.setattr(prefetcher, "DEVICES", ("cpu",))
    assert likeness(run(translation("fresh=true"))) == plain
    assert [batch.size for batch in cut[2:]] == [4, 7] * 5
