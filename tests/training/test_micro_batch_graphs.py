from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback

from gptexp.config.schema import TrainerConfig
from gptexp.generation import cuda_graphs
from gptexp.loss import LossCounts
from gptexp.model import Transformer, TransformerConfig
from gptexp.training import micro_batch_graphs
from gptexp.training.micro_batch_graphs import MicroBatchGraphs, can_replay

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CONFIG = TransformerConfig(
    vocab_size=50, layers=1, d_model=16, heads=2, kv_heads=2, d_ff=32, context=8, dropout=0.1
)


def build(is_recording, monkeypatch):
    """Return a model, and a function that runs a step of micro-batches with or without graphs."""
    torch.manual_seed(0)
    model = Transformer(replace(CONFIG, initialisation="gpt2"))
    optimizer = torch.optim.AdamW(model.parameters())

    def compute(inputs, counts):
        loss = model.loss(**inputs).mean(counts)
        loss.backward()
        return loss.detach()[None]

    graphs = MicroBatchGraphs(compute, model.parameters(), CPU)
    if is_recording:
        monkeypatch.setattr(graphs.graphs, "is_on", True)

    def step(number, sizes=(4, 4, 2), with_graphs=True):
        torch.manual_seed(number)
        losses = []
        for size in sizes:
            tokens = torch.randint(50, (size, 8))
            inputs = {"tokens": tokens, "targets": tokens, "documents": None}
            losses.append((graphs.run if with_graphs else compute)(inputs, LossCounts(80, 0, 80)))
        optimizer.step()
        optimizer.zero_grad()
        return float(sum(losses))

    return model, step, graphs


@pytest.fixture
def replays(monkeypatch):
    """Let recordings be functions that compute again; return a list that has an entry for each replay."""
    replays = []

    def record(_, function):
        # A recording computes nothing; each replay reads and writes the places of the recording.
        result = torch.empty(1)

        def replay():
            replays.append(1)
            result.copy_(function())

        return replay, result

    monkeypatch.setattr(cuda_graphs.CudaGraphs, "_record", record)
    return replays


@pytest.mark.parametrize("is_recording", [False, True])
def test_micro_batches_with_fixed_places_train_as_others_do(is_recording, replays, monkeypatch):
    plain, plain_step, _ = build(False, monkeypatch)
    model, step, graphs = build(is_recording, monkeypatch)
    for number in range(4):
        assert step(number) == plain_step(number, with_graphs=False)
    assert len(replays) == (10 if is_recording else 0)  # all but the first of each shape
    for parameter, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(parameter, expected)
    places = [own.data_ptr() for own in graphs.gradients.values()]
    step(4, sizes=(4,))
    assert places == [own.data_ptr() for own in graphs.gradients.values()]


def test_training_goes_on_where_recording_fails(monkeypatch):
    def fail(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    plain, plain_step, _ = build(False, monkeypatch)
    model, step, _ = build(True, monkeypatch)
    expected = [plain_step(number, with_graphs=False) for number in range(2)]
    monkeypatch.setattr(cuda_graphs.CudaGraphs, "_record", fail)
    with pytest.warns(UserWarning, match="training goes on without CUDA graphs: operation not"):
        assert [step(number) for number in range(2)] == expected
    for parameter, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_micro_batches_of_ever_new_shapes_are_not_recorded(monkeypatch):
    monkeypatch.setattr(micro_batch_graphs, "MAX_SHAPES", 2)
    _, step, graphs = build(True, monkeypatch)
    step(0, sizes=(1, 2, 3, 4))
    assert not graphs.graphs.is_on


def test_parameters_that_move_or_stop_to_train_are_not_replayed_from_their_old_places(
    replays, monkeypatch
):
    model, step, _ = build(True, monkeypatch)
    for number in range(2):
        step(number, sizes=(4,))
    weight = model.embedding.weight
    for change in (
        lambda: setattr(weight, "data", weight.data.clone()),
        lambda: weight.requires_grad_(False),
    ):
        replays.clear()
        step(2, sizes=(4,))
        assert replays
        replays.clear()
        change()
        step(3, sizes=(4,))
        assert not replays


def test_small_models_on_one_gpu_are_replayed():
    class OwnTransformer(Transformer):
        pass

    def build_model(cls=Transformer, **changes):
        with torch.device("meta"):
            return cls(replace(CONFIG, **changes))

    layout, config = SimpleNamespace(has_fixed_lengths=True, predicts_next=True), TrainerConfig()
    expected = (config, build_model(), layout, CUDA, 1, [])

    def is_replayed(**changes):
        names = ("config", "model", "layout", "device", "ranks", "callbacks")
        return can_replay(**dict(zip(names, expected, strict=True)) | changes)

    assert is_replayed()
    for change in (
        {"callbacks": [Callback()]},
        {"model": build_model(OwnTransformer)},
        {"device": CPU},
        {"ranks": 2},
        {"layout": SimpleNamespace(has_fixed_lengths=False, predicts_next=True)},
        {"model": build_model(experts=4)},
        {"model": build_model(d_model=1024, d_ff=4096, layers=2)},
        {"config": replace(config, compile="false")},
        {"config": replace(config, deterministic=True)},
        {"config": replace(config, activation_checkpointing="full")},
        {"config": replace(config, strategy="fsdp")},
    ):
        assert not is_replayed(**change)
