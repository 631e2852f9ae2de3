"""The arithmetic of model/cost.py and model/memory.py against counted operations and measured bytes."""

import gc
from itertools import accumulate

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gptexp.config import schema
from gptexp.model import Transformer, TransformerConfig, attention
from gptexp.model.cost import count_active_parameters, count_flops, count_parameters
from gptexp.model.memory import MUON_STACK, count_cache_bytes, estimate_memory
from gptexp.training import muon, optimizers
from gptexp.training.optimizers import build_optimizers

BATCH, TOKENS, SOURCE = 3, 20, 12
SHAPE = {
    "vocab_size": 96,
    "layers": 2,
    "d_model": 32,
    "heads": 4,
    "kv_heads": 2,
    "d_ff": 80,
    "context": 64,
}
GPT2 = {
    "position": "learned",
    "norm": "layer",
    "feed_forward": "gelu",
    "qk_norm": False,
    "bias": True,
    "kv_heads": 4,
}
PAIR = {"arch": "encoder_decoder"}
MODELS = {
    "modern": {},
    "gpt2": GPT2,
    "relu2 untied": {"feed_forward": "relu2", "tie_embeddings": False},
    "wide heads, one key": {"head_dim": 16, "kv_heads": 1},
    "dropout": {"dropout": 0.1},
    "gpt2 dropout": {**GPT2, "dropout": 0.1},
    "prefix": {"arch": "prefix"},
    "encoder": {"arch": "encoder", "num_sequence_classes": 2, "qk_norm": False},
    "tagger": {"arch": "encoder", "num_token_classes": 5, "bias": True},
    "modern pair": PAIR,
    "sinusoidal pair": {**GPT2, **PAIR, "position": "sinusoidal"},
    "pair dropout": {**PAIR, "dropout": 0.1, "tie_embeddings": False, "feed_forward": "relu2"},
}
EXPERTS = {"experts": 5, "experts_per_token": 2, "d_ff": 48}
WITH_EXPERTS = {
    "experts": EXPERTS,
    "shared experts": {**EXPERTS, "shared_experts": 2, "feed_forward": "gelu"},
    "one shared expert": {**EXPERTS, "shared_experts": 1, "dropout": 0.1},
    "experts of a pair": {**EXPERTS, **PAIR},
}
each_model = pytest.mark.parametrize("switches", MODELS.values(), ids=MODELS.keys())
in_precisions = pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])


def a_model(**switches):
    torch.manual_seed(0)
    return Transformer(TransformerConfig(**{**SHAPE, **switches})).train()


def losses(model, batch=BATCH, tokens=TOKENS, source=SOURCE):
    """The loss of a batch as `cost` counts it, and what names it there."""
    given = (
        {"prefix": torch.full((batch,), source)}
        if model.encoder or model.config.arch == "prefix"
        else {}
    )
    if model.config.arch == "encoder":
        given = {"lengths": torch.full((batch,), tokens - 1)}
    if model.config.num_sequence_classes:
        given["labels"] = torch.zeros(batch, dtype=torch.long)
        given |= {
            "prefix": torch.full((batch,), tokens // 2),
            "lengths": torch.full((batch,), tokens),
        }
    ids = torch.randint(5, (batch, tokens + (source - 1 if model.encoder else 0)))
    loss = model.loss(ids, ids, **given)
    return loss.targets + loss.labels + loss.auxiliary, {"source": source} if model.encoder else {}


all_models = pytest.mark.parametrize(
    "switches", [*MODELS.values(), *WITH_EXPERTS.values()], ids=[*MODELS, *WITH_EXPERTS]
)


@all_models
def test_parameters_are_those_of_the_model(switches):
    model = a_model(**switches)
    assert count_parameters(model.config) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("switches", [MODELS["modern"], *WITH_EXPERTS.values()])
def test_active_parameters_are_those_that_one_token_uses(switches):
    model = a_model(**{**switches, "dropout": 0.0})
    for parameter in model.parameters():  # zero-initialised outputs have no gradient behind them
        torch.nn.init.normal_(parameter)
    ids, given = torch.randint(5, (1, 3)), {}
    if model.encoder:  # one token of a source, and one of a target
        given = {"prefix": torch.tensor([1])}
    loss = model.loss(ids[:, :1], ids[:, :1], **given)
    loss.targets.backward()
    used = 0
    for name, parameter in model.named_parameters():
        if parameter.ndim < 3:
            used += parameter.numel()
        else:
            used += int((parameter.grad.abs().sum(dim=(1, 2)) > 0).sum()) * parameter[0].numel()
        assert parameter.grad is not None, name
    assert count_active_parameters(model.config) == used


def test_gpt3_is_planned_without_a_machine_that_could_hold_it():
    shape = {
        "vocab_size": 50257,
        "layers": 96,
        "d_model": 12288,
        "heads": 96,
        "kv_heads": 96,
        "d_ff": 49152,
    }
    config = TransformerConfig(**{**GPT2, **shape, "context": 2048})
    assert count_parameters(config) == pytest.approx(
        175e9, rel=0.01
    )  # Brown et al. 2020, table 2.1
    per_token = count_flops(config, 1, 2048).training_per_token
    assert per_token * 300e9 == pytest.approx(
        3.14e23, rel=0.05
    )  # the same, table D.1, without attention
    assert estimate_memory(config, 1, 2048, optimizer="adamw").total > 16 * count_parameters(config)
    assert count_cache_bytes(config, 1, 2048, number=2) == 2 * 96 * 2048 * 12288 * 2


def assert_counted_as_planned(model):
    # The counter does not know a CPU's fused attention, and would count it as nothing.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss, source = losses(model)
        forward = counter.get_total_flops()
        attended = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
        loss.backward()
    ours = count_flops(
        model.config,
        BATCH,
        TOKENS,
        activation_checkpointing=model.activation_checkpointing,
        **source,
    )
    assert (ours.forward, ours.training) == (forward, counter.get_total_flops())
    if not source:
        assert (
            attended == 4 * 2 * BATCH * TOKENS**2 * 4 * model.config.head_dim
        )  # 2 layers, 4 heads


@all_models
def test_operations_are_those_that_torch_counts(switches):
    assert_counted_as_planned(a_model(**switches))


@pytest.mark.parametrize(
    "name", ["modern", "gpt2 dropout", "modern pair", "experts", "shared experts"]
)
def test_operations_with_activations_computed_again(name):
    model = a_model(**{**MODELS, **WITH_EXPERTS}[name])
    model.activation_checkpointing = True
    assert_counted_as_planned(model)


def test_the_head_costs_for_its_targets_alone():
    model, ids = a_model(), torch.randint(5, (BATCH, TOKENS))
    targets = torch.where(torch.arange(TOKENS) < 15, -1, ids)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.loss(ids, targets)
    assert (
        count_flops(model.config, BATCH, TOKENS, targets=5 * BATCH).forward
        == counter.get_total_flops()
    )


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


def assert_kept_as_planned(model, bf16, on_gpu):
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        measured, source = kept(model)
    ours = estimate_memory(
        model.config,
        BATCH,
        TOKENS,
        bf16=bf16,
        on_gpu=on_gpu,
        activation_checkpointing=model.activation_checkpointing,
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
    model = a_model(**MODELS[name])
    model.activation_checkpointing = True
    assert_kept_as_planned(model, bf16=False, on_gpu=False)


@in_precisions
@pytest.mark.parametrize(
    "switches", [{}, {"dropout": 0.1}, {"arch": "prefix"}], ids=["plain", "dropout", "masked"]
)
def test_activations_of_more_tokens_than_the_formula_takes(switches, bf16, monkeypatch):
    for place in ("attention", "memory"):
        monkeypatch.setattr(f"gptexp.model.{place}.EAGER_ATTENTION_MAX_SCORES", 0)
    assert_kept_as_planned(a_model(**switches), bf16, on_gpu=False)


def peak(make, steps):
    """Most bytes that torch has allocated at once on the CPU in `steps` of the model that is made."""
    gc.collect()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step = make()
        for _ in range(steps):
            step()
    events = [
        event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    return max(
        accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    )


STEPS = {  # of: a batch, precision, micro-batches, and what the peak is due to
    "activations": ({}, 4, False, 1, "adamw", False),
    "activations, accumulated": (GPT2, 4, True, 2, "muon", False),
    "logits": ({"vocab_size": 5000}, 4, True, 1, "muon", False),
    "a block that is computed again": ({}, 4, False, 2, "adamw", True),
    "a shared embedding": ({"vocab_size": 20000}, 1, True, 2, "adamw", False),
    "muon": (GPT2, 1, True, 1, "muon", False),
    "muon in fp32": (PAIR, 1, False, 1, "muon", True),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_the_total_is_the_measured_peak(step, monkeypatch):
    switches, batch, bf16, micro_batches, kind, activation_checkpointing = step
    monkeypatch.setattr(optimizers, "has_fast_bf16", lambda _: bf16)  # whatever this machine is
    sizes = {"layers": 3, "d_model": 96, "d_ff": 256, "vocab_size": 300}

    def make():
        model = a_model(**{**SHAPE, **sizes, **switches})
        model.activation_checkpointing = activation_checkpointing
        settings = {
            "adamw": schema.AdamWConfig(lr=0.001),
            "muon": schema.MuonConfig(lr=0.02, adamw_lr=0.005),
        }[kind]
        built = build_optimizers(model, settings)

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
        activation_checkpointing=activation_checkpointing,
        on_gpu=False,
        accumulates=micro_batches > 1,
    )
    assert ours.total == pytest.approx(peak(make, 2), rel=0.05)


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
    ("given", "said"),
    [
        ({"tokens": 65}, "65 tokens do not fit into a context of 64"),
        ({"source": 3}, "source=3 with arch=decoder"),
        ({"targets": 61}, "targets=61"),
        ({"optimizer": "sgd"}, "optimizer=sgd: not known. Allowed: muon, adamw"),
    ],
)
def test_what_the_model_cannot_do_has_no_cost(given, said):
    with pytest.raises(ValueError, match=said):
        estimate_memory(TransformerConfig(**SHAPE), **{"batch": BATCH, "tokens": TOKENS, **given})
