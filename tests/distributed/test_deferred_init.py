"""A model is built on the meta device, sharded over pretended ranks, and filled rank by rank."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from gptexp.config.schema import TrainerConfig
from gptexp.distributed import deferred_init
from gptexp.distributed.deferred_init import DeferredWeights
from gptexp.distributed.process_group import ProcessGroup
from gptexp.distributed.sharding import local_region
from gptexp.distributed.strategies import build_mesh, shard_model
from gptexp.model import Transformer, TransformerConfig, lora
from gptexp.model.hf import convert
from gptexp.stored_tensors import StoredTensor

CPU = torch.device("cpu")
FSDP = TrainerConfig(strategy="fsdp")
SETTINGS = {
    "gpt2": {
        "position": "learned",
        "norm": "layer",
        "bias": True,
        "initialisation": "gpt2",
        "kv_heads": 2,
        "feed_forward": "gelu",
        "qk_norm": False,
    },
    "modern": {"tie_embeddings": False},
    "experts": {"experts": 3},
    "shared": {"arch": "encoder_decoder", "experts": 3, "shared_experts": 1},
    "width transfer": {"base_width": 10},
    "classes": {"num_sequence_classes": 2},
}


def config(**settings) -> TransformerConfig:
    sizes = {"layers": 2, "d_model": 20, "heads": 2, "kv_heads": 1, "head_dim": 10, "d_ff": 30}
    return TransformerConfig(vocab_size=53, context=8, **{**sizes, **settings})


def build(settings) -> Transformer:
    model = Transformer(config(**settings))
    lora.add(model, 2, 4.0, ["query"], trained=["head"])
    return model


@pytest.fixture
def on_ranks():
    """Call a function once as each of some ranks, which exchange nothing."""

    def call(count, function):
        results = []
        for rank in range(count):
            dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=count)
            mesh = init_device_mesh("cpu", (count,), mesh_dim_names=("data_parallel",))
            mesh._thread_id = rank  # torch caches by mesh, and would take one rank for another
            try:
                results.append(function(mesh))
            finally:
                dist.destroy_process_group()
        return results

    return call


def fill(mesh, make, stored=None, trainer=FSDP) -> nn.Module:
    weights = DeferredWeights(seed=3)
    with weights.construction():
        model = make()
    assert weights.can_fill(model)
    weights.stored = stored or {}
    weights.materialize(model, CPU, lambda: shard_model(model, mesh, trainer))
    assert (
        not weights.stored
    )  # else the files of a checkpoint would stay open while the run goes on
    return model


def join(models: list[nn.Module]) -> dict[str, torch.Tensor]:
    """Put the shards of all ranks together."""
    full = {name: torch.full(p.shape, torch.nan) for name, p in models[0].named_parameters()}
    for model in models:
        for name, parameter in model.named_parameters():
            full[name][local_region(parameter)] = parameter.to_local()
    return full


@pytest.mark.parametrize(
    ("name", "ranks"), [("gpt2", 3), ("modern", 8), ("experts", 3), ("shared", 1), ("classes", 3)]
)
def test_shards_have_the_weights_of_one_device(name, ranks, on_ranks, monkeypatch):
    monkeypatch.setattr(deferred_init, "CHUNK_ELEMENTS", 400)  # several parts of a matrix
    torch.manual_seed(3)
    expected = dict(build(SETTINGS[name]).named_parameters())
    models = on_ranks(ranks, lambda mesh: fill(mesh, lambda: build(SETTINGS[name])))
    filled = join(models)
    assert filled.keys() == expected.keys()
    for key, parameter in expected.items():
        assert torch.equal(filled[key], parameter), key
    is_tied = "head.weight" not in expected
    assert (models[0].head.weight is models[0].embedding.weight) == is_tied


@pytest.mark.parametrize("name", ["gpt2", "experts", "classes"])
def test_each_rank_reads_its_own_shard_of_files(name, on_ranks, tmp_path):
    """Fused, transposed and stacked matrices too; a head that the files lack has its random weights."""
    saved = Transformer(config(**(SETTINGS[name] if name != "classes" else {})))
    for parameter in saved.parameters():
        nn.init.normal_(parameter)
    convert.save(saved, tmp_path)
    _, weights = convert.open_model(tmp_path)
    read: list[int] = []

    def count(stored: StoredTensor) -> StoredTensor:
        def read_and_count(region):
            tensor = stored.read(region)
            read.append(tensor.numel())
            return tensor

        return replace(stored, read=read_and_count)

    counted = {key: count(stored) for key, stored in weights.items()}
    build = partial(Transformer, config(**SETTINGS[name]))
    filled = join(on_ranks(3, lambda mesh: fill(mesh, build, counted)))
    torch.manual_seed(3)
    expected = dict(build().named_parameters()) | dict(saved.named_parameters())
    for key, parameter in expected.items():
        assert torch.equal(filled[key], parameter), key
    assert sum(read) == sum(p.numel() for p in saved.parameters())


def test_constructors_that_cannot_be_repeated_are_known():
    def can_fill(make) -> bool:
        weights = DeferredWeights(seed=0)
        with weights.construction():
            model = make()
        return weights.can_fill(model)

    def fill_a_part():
        model = nn.Linear(4, 4)
        nn.init.zeros_(model.weight[0])
        return model

    def multiply():
        model = nn.Linear(4, 4)
        model.weight.data.mul_(2)
        return model

    def draw():
        torch.randn(3)
        return nn.Linear(4, 4)

    def keep(**attributes):
        model = nn.Linear(4, 4)
        vars(model).update(attributes)
        return model

    def draw_elsewhere():
        model = nn.Linear(4, 4)
        nn.init.normal_(model.weight, generator=torch.Generator())
        return model

    def seed():
        torch.manual_seed(1)
        return nn.Linear(4, 4)

    def seed_for_a_while():
        with torch.random.fork_rng():
            return seed()

    def add_buffer():
        model = nn.Linear(4, 4)
        model.register_buffer("table", torch.ones(3, device="cpu"))
        return model

    assert can_fill(lambda: nn.Linear(4, 4))
    assert can_fill(lambda: keep(number=1, table=torch.ones(3, device="cpu")))
    for make in (
        *(fill_a_part, multiply, draw, draw_elsewhere, seed, seed_for_a_while),
        lambda: nn.BatchNorm1d(4),
        add_buffer,
        lambda: keep(table=torch.ones(3)),
        lambda: keep(tables=[torch.arange(3)]),
    ):
        assert not can_fill(make)


def test_construction_takes_no_random_numbers():
    state = torch.get_rng_state()
    with DeferredWeights(seed=0).construction():
        nn.Linear(4, 4)
        torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), state)


def test_parts_of_matrices_have_the_weights_of_one_device(monkeypatch):
    """Two rows of ranks share the shards, and the ranks of a row divide each matrix."""
    # torch caches by mesh, and would take one rank for another.
    monkeypatch.setattr(DeviceMesh, "__eq__", object.__eq__)
    monkeypatch.setattr(DeviceMesh, "__hash__", object.__hash__)
    trainer = TrainerConfig(strategy="fsdp", tensor_parallel=2)
    build = partial(Transformer, config(kv_heads=2))
    models = []
    for rank in range(6):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=6)
        try:
            mesh = build_mesh(trainer, ProcessGroup(rank, 6, tensor_parallel=2), CPU)
            models.append(fill(mesh, build, trainer=trainer))
        finally:
            dist.destroy_process_group()
    torch.manual_seed(3)
    filled = join(models)
    for name, parameter in build().named_parameters():
        assert torch.equal(filled[name], parameter), name
