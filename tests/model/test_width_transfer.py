"""The coordinate check of Yang et al. 2022: what a few steps change must not grow with the width."""

from dataclasses import replace

import pytest
import torch

from gptexp.config import schema
from gptexp.model import Transformer, TransformerConfig
from gptexp.model.hf.config_json import architecture_of
from gptexp.training.optimizers import build_optimizers

OPTIMIZERS = {
    "adamw": schema.AdamWConfig(lr=0.01),
    "muon": schema.MuonConfig(lr=0.02, adamw_lr=0.01),
}
SWITCHES = [{}, {"initialisation": "gpt2", "qk_norm": False}, {"tie_embeddings": False}]


def config_of(width, **switches):
    shape = {"vocab_size": 64, "layers": 2, "heads": 4, "kv_heads": 4, "context": 32}
    return TransformerConfig(**{**shape, "d_model": width, "d_ff": 2 * width, **switches})


def train(config, optim, steps=4):
    """Train on one batch; return the model and the root mean square of what changed in its logits."""
    torch.manual_seed(0)
    model = Transformer(config)
    optimizers = build_optimizers(model, optim)
    tokens = torch.randint(0, 64, (8, 33), generator=torch.Generator().manual_seed(1))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    with torch.no_grad():
        before = model.logits(model(inputs))
    for _ in range(steps):
        (model.loss(inputs, targets).targets / targets.numel()).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        return model, float((model.logits(model(inputs)) - before).pow(2).mean().sqrt())


@pytest.mark.parametrize("optim", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_a_step_changes_wide_models_as_much_as_the_narrow_one(optim, switches):
    narrow = train(config_of(32, **switches), optim)[1]
    wide = train(config_of(128, **switches), optim)[1]
    assert wide > 2 * narrow  # without width transfer
    transferred = train(config_of(128, **switches, base_width=32), optim)[1]
    assert 0.5 * narrow < transferred < 1.2 * narrow


@pytest.mark.parametrize("optim", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("initialisation", ["zero", "gpt2"])
def test_nothing_changes_at_the_base_width(optim, initialisation):
    config = config_of(32, initialisation=initialisation)
    plain, _ = train(config, optim)
    based, _ = train(replace(config, base_width=32), optim)
    for one, other in zip(plain.parameters(), based.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_decay_of_a_step_is_the_same_at_every_width():
    model = Transformer(config_of(128, base_width=32))
    (optimizer,) = build_optimizers(model, schema.AdamWConfig(lr=0.01, weight_decay=0.1))
    matrices, scaled_matrices, vectors, last_norm = optimizer.param_groups
    assert matrices["lr"] == vectors["lr"] == 0.01  # the first is the rate that is logged
    assert scaled_matrices["lr"] == last_norm["lr"] == 0.01 / 4
    assert scaled_matrices["lr"] * scaled_matrices["weight_decay"] == pytest.approx(0.01 * 0.1)


def test_a_model_with_width_transfer_is_an_ordinary_one_of_transformers():
    config = config_of(128, base_width=32)
    assert architecture_of(config) == architecture_of(config_of(128))
