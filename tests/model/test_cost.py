"""The arithmetic of model/cost.py against operations that torch counts."""

import pytest
import torch
from costed_models import BATCH, GPT3, MODELS, PAIR, TOKENS, a_model, losses
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gptexp.model import TransformerConfig
from gptexp.model.activation_checkpointing import checkpoint_activations
from gptexp.model.cost import count_active_parameters, count_flops, count_parameters

EXPERTS = {"experts": 5, "experts_per_token": 2, "d_ff": 48}
WITH_EXPERTS = {
    "experts": EXPERTS,
    "shared experts": {**EXPERTS, "shared_experts": 2, "feed_forward": "gelu"},
    "one shared expert": {**EXPERTS, "shared_experts": 1, "dropout": 0.1},
    "experts of a pair": {**EXPERTS, **PAIR},
}
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


def assert_counted_as_planned(model, recomputes="none"):
    checkpoint_activations(model, recomputes)
    # The counter does not know a CPU's fused attention, and would count it as nothing.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss, source = losses(model)
        forward = counter.get_total_flops()
        attended = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
        loss.backward()
    ours = count_flops(model.config, BATCH, TOKENS, activation_checkpointing=recomputes, **source)
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
    assert_counted_as_planned(a_model(**{**MODELS, **WITH_EXPERTS}[name]), "full")


def test_operations_with_products_kept():
    assert_counted_as_planned(a_model(**MODELS["pair dropout"]), "selective")


def test_the_head_costs_for_its_targets_alone():
    model, ids = a_model(), torch.randint(5, (BATCH, TOKENS))
    targets = torch.where(torch.arange(TOKENS) < 15, -1, ids)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.loss(ids, targets)
    assert (
        count_flops(model.config, BATCH, TOKENS, targets=5 * BATCH).forward
        == counter.get_total_flops()
    )


def test_gpt3_is_counted_without_a_machine_that_could_hold_it():
    config = TransformerConfig(**GPT3)
    # Brown et al. 2020, table 2.1, and table D.1, which is without attention
    assert count_parameters(config) == pytest.approx(175e9, rel=0.01)
    per_token = count_flops(config, 1, 2048).training_per_token
    assert per_token * 300e9 == pytest.approx(3.14e23, rel=0.05)
