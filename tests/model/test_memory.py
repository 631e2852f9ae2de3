"""The arithmetic of model/memory.py against measured bytes."""

from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from costed_models import BATCH, GPT2, GPT3, MODELS, PAIR, SHAPE, TOKENS, a_model, losses, peak
from torch.distributed.device_mesh import init_device_mesh
from torch.nn import functional as F
from torch.testing._internal.distributed.fake_pg import FakeStore

from gptexp.config import schema
from gptexp.distributed.strategies import keep_full_gradients, shard_model
from gptexp.model import TransformerConfig, attention, lora, norm, positions, token_loss
from gptexp.model.activation_checkpointing import checkpoint_activations
from gptexp.model.cost import count_parameters
from gptexp.model.memory import MUON_STACK, count_cache_bytes, estimate_memory
from gptexp.training import muon, optimizers
from gptexp.training.optimizers import build_optimizers

each_model = pytest.mark.parametrize("switches", MODELS.values(), ids=MODELS.keys())
in_precisions = pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])


def kept(model):
    """Bytes of the storages that autograd keeps for the backward pass of a loss; those of the model aside."""
    models, storages = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def note(tensor):
        storages[tensor.untyped_storage().data_ptr()] = (
            tensor  # held, so that its address stays its own
        )
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _, source = losses(model)
    return sum(
        x.untyped_storage().nbytes() for at, x in storages.items() if at not in models
    ), source


class FusedRMSNorm(torch.autograd.Function):
    """It keeps what a GPU's kernel keeps; there is no backward pass here."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        scale = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(x, scale, weight)
        return x * scale * weight


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """A CPU's operations replaced by those that keep what a GPU's keep: fused ones, and autocast's fp32 for some."""
    fused, square = F.scaled_dot_product_attention, torch.Tensor.square
    monkeypatch.setattr(attention, "EAGER_ATTENTION_MAX_SCORES", 0)
    for module in (norm, positions):
        monkeypatch.setattr(module, "trains_on_cpu", lambda _: False)
    monkeypatch.setattr(
        F, "rms_norm", lambda x, _, weight, eps: FusedRMSNorm.apply(x.float(), weight, eps)
    )
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda q, k, v, m, _, **how: fused(q, k, v, m, 0.0, **how),
    )
    monkeypatch.setattr(
        F, "dropout", lambda x, p, *_: torch.native_dropout(x, p, True)[0] if p else x
    )
    monkeypatch.setattr(torch.Tensor, "square", lambda x: square(x.float()))


def assert_kept_as_planned(model, bf16, on_gpu, recomputes="none"):
    checkpoint_activations(model, recomputes)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        measured, source = kept(model)
    ours = estimate_memory(
        model.config,
        BATCH,
        TOKENS,
        bf16=bf16,
        on_gpu=on_gpu,
        activation_checkpointing=recomputes,
        **source,
    )
    log_softmax = ours.logits // 3
    assert ours.activations + ours.autocast_cache + log_softmax == pytest.approx(measured, rel=0.02)


@in_precisions
@each_model
def test_activations_are_those_that_autograd_keeps(switches, bf16):
    assert_kept_as_planned(a_model(**switches), bf16, on_gpu=False)


@pytest.mark.usefixtures("as_on_a_gpu")
@in_precisions
@each_model
def test_activations_with_fused_operations(switches, bf16):
    assert_kept_as_planned(a_model(**switches), bf16, on_gpu=True)


@pytest.mark.parametrize("name", ["modern", "gpt2 dropout"])
def test_activations_that_stay_where_blocks_are_computed_again(name):
    assert_kept_as_planned(a_model(**MODELS[name]), bf16=False, on_gpu=False, recomputes="full")


@in_precisions
@pytest.mark.parametrize(
    "switches", [{}, {"dropout": 0.1}, {"arch": "prefix"}], ids=["plain", "dropout", "masked"]
)
def test_activations_of_more_tokens_than_the_formula_takes(switches, bf16, monkeypatch):
    for place in ("attention", "memory"):
        monkeypatch.setattr(f"gptexp.model.{place}.EAGER_ATTENTION_MAX_SCORES", 0)
    assert_kept_as_planned(a_model(**switches), bf16, on_gpu=False)


SETTINGS = {
    "adamw": schema.AdamWConfig(lr=0.001),
    "muon": schema.MuonConfig(lr=0.02, adamw_lr=0.005),
}
EXPERTS = {"experts": 4, "shared_experts": 2}
STEPS = {  # of: a batch, precision, micro-batches, and what the peak is due to
    "activations": ({}, 4, False, 1, "adamw", "none"),
    "activations, accumulated": (GPT2, 4, True, 2, "muon", "none"),
    "logits": ({"vocab_size": 5000}, 4, True, 1, "muon", "none"),
    "logits in chunks": ({"vocab_size": 5000}, 4, False, 1, "adamw", "none"),
    "logits in chunks, bf16": (
        {"vocab_size": 5000, "tie_embeddings": False},
        *(4, True, 1, "adamw", "none"),
    ),
    "a block that is computed again": ({}, 4, False, 2, "adamw", "full"),
    "a block whose products are kept": ({}, 4, False, 2, "adamw", "selective"),
    "a block with dropout": ({"dropout": 0.1}, 4, False, 2, "adamw", "selective"),
    "a shared embedding": ({"vocab_size": 20000}, 1, True, 2, "adamw", "none"),
    "experts that are computed again": (EXPERTS, 4, False, 2, "adamw", "full"),
    "experts whose products are kept": (EXPERTS, 4, True, 1, "adamw", "selective"),
    "muon of experts": (EXPERTS, 1, True, 1, "muon", "none"),
    "muon": (GPT2, 1, True, 1, "muon", "none"),
    "muon in fp32": (PAIR, 1, False, 1, "muon", "full"),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_total_is_the_measured_peak(name, monkeypatch):
    switches, batch, bf16, micro_batches, kind, recomputes = STEPS[name]
    if "chunks" in name:
        monkeypatch.setattr(token_loss, "CPU_LOGITS", (1, 1 << 18))
    monkeypatch.setattr(optimizers, "has_fast_bf16", lambda _: bf16)  # whatever this machine is
    sizes = {"layers": 3, "d_model": 96, "d_ff": 256, "vocab_size": 300}

    def make():
        model = a_model(**{**SHAPE, **sizes, **switches})
        checkpoint_activations(model, recomputes)
        built = build_optimizers(model, SETTINGS[kind])

        def train():
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                for _ in range(micro_batches):
                    loss, _ = losses(model, batch, 64 if batch > 1 else 16, 16)
                    loss.backward()
                for optimizer in built:
                    optimizer.step()
                    optimizer.zero_grad()

        return train

    config = TransformerConfig(**{**SHAPE, **sizes, **switches})
    ours = estimate_memory(
        config,
        batch,
        64 if batch > 1 else 16,
        source=16 if switches == PAIR else 0,
        optimizer=kind,
        bf16=bf16,
        activation_checkpointing=recomputes,
        on_gpu=False,
        accumulates=micro_batches > 1,
    )

    assert ours.total == pytest.approx(peak(make, 2), rel=0.05)


@pytest.fixture
def fake_mesh():
    """A mesh of four ranks, of which this process is the only one."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield init_device_mesh("cpu", (4,), mesh_dim_names=("data_parallel",))
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("kind", "recomputes", "micro_batches", "is_full"),
    [("adamw", "none", 1, False), ("adamw", "full", 2, True), ("muon", "full", 1, False)],
)
def test_a_shard_takes_the_measured_peak(kind, recomputes, micro_batches, is_full, fake_mesh):
    sizes = {**SHAPE, "layers": 8, "d_model": 96, "d_ff": 256, "vocab_size": 1000}
    model = a_model(**sizes)
    checkpoint_activations(model, recomputes)
    shard_model(model, fake_mesh, schema.TrainerConfig(strategy="fsdp"))
    optimizers = build_optimizers(model, SETTINGS[kind])

    def train():
        for micro_batch in range(micro_batches):
            keeps = is_full and micro_batch < micro_batches - 1
            with keep_full_gradients(model) if keeps else nullcontext():
                loss, _ = losses(model, 1, 16)
                loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    train()
    ours = estimate_memory(
        model.config,
        1,
        16,
        optimizer=kind,
        activation_checkpointing=recomputes,
        on_gpu=False,
        accumulates=micro_batches > 1,
        shards=4,
        keeps_full_gradients=is_full,
    )
    stays = ours.weights + ours.optimizer
    assert ours.total == pytest.approx(stays + peak(lambda: train, 1), rel=0.05)


def test_only_adapters_have_gradients_and_moments():
    model = a_model()
    count = count_parameters(model.config)
    lora.add(model, 4, 8.0, ["query", "value"])
    parameters = list(model.parameters())
    (optimizer,) = build_optimizers(model, SETTINGS["adamw"])
    losses(model)[0].backward()
    optimizer.step()
    ours = estimate_memory(
        model.config,
        BATCH,
        TOKENS,
        optimizer="adamw",
        adapters=sum(parameter.numel() for parameter in parameters) - count,
        trained=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    )
    moments = [x for state in optimizer.state.values() for x in state.values() if x.ndim]
    assert ours.weights == sum(parameter.nbytes for parameter in parameters)
    assert ours.gradients == sum(x.grad.nbytes for x in parameters if x.grad is not None)
    assert ours.optimizer == sum(x.nbytes for x in moments) == 2 * ours.gradients


def test_muon_stacks_as_much_as_planned():
    assert MUON_STACK == muon.MAX_STACKED_ELEMENTS


def test_the_cache_holds_what_generation_allocates():
    model = a_model(**PAIR).eval()
    cache = model.new_cache(2, 30)
    with torch.inference_mode():
        memory_of_source = model.encode(torch.randint(5, (2, 9)), torch.tensor([9, 4]))
        model(torch.randint(5, (2, 1)), cache=cache, memory=memory_of_source)
    tensors = [cache.keys, cache.values, *(x for pair in cache.cross.values() for x in pair)]
    assert count_cache_bytes(model.config, 2, 30, source=9) == sum(x.nbytes for x in tensors)


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ({"tokens": 65}, "65 tokens do not fit into a context of 64"),
        ({"source": 3}, "source=3 with arch=decoder"),
        ({"targets": 61}, "targets=61"),
        ({"optimizer": "sgd"}, "optimizer=sgd: not known. Allowed: muon, adamw"),
    ],
)
def test_what_the_model_cannot_do_has_no_cost(batch, reason):
    with pytest.raises(ValueError, match=reason):
        estimate_memory(TransformerConfig(**SHAPE), **{"batch": BATCH, "tokens": TOKENS, **batch})


def test_gpt3_is_planned_without_a_machine_that_could_hold_it():
    config = TransformerConfig(**GPT3)
    assert estimate_memory(config, 1, 2048, optimizer="adamw").total > 16 * count_parameters(config)
    assert count_cache_bytes(config, 1, 2048, number=2) == 2 * 96 * 2048 * 12288 * 2
