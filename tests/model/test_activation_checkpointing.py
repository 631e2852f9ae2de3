import pytest
import torch
from models import EXPERTS, GPT2, a_model

from gptexp.model.activation_checkpointing import checkpoint_activations

PAIR = {"arch": "encoder_decoder"}


def gradients(model):
    tokens, targets = torch.randint(50, (2, 12)), torch.randint(50, (2, 12))
    prefix = torch.full((2,), 4) if model.encoder else None
    torch.manual_seed(1)
    loss = model.loss(tokens, targets, prefix=prefix)
    (loss.targets + loss.auxiliary).backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("kind", ["full", "selective"])
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("switches", [{}, {"dropout": 0.1, **GPT2}, EXPERTS, PAIR])
def test_recomputed_activations_give_the_same_gradients(switches, bf16, kind):
    found = []
    for recomputes in ("none", kind):
        model = a_model(**switches).train()
        names = list(model.state_dict())
        checkpoint_activations(model, recomputes)
        assert list(model.state_dict()) == names
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found.append(gradients(model))
    for plain, again in zip(*found, strict=True):
        assert torch.equal(plain, again)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it
def test_a_compiled_block_recomputes_in_one_graph():
    plain = gradients(a_model(layers=1).train())
    model = a_model(layers=1).train()
    checkpoint_activations(model, "selective")
    model.blocks[0].compile(backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(gradients(model), plain)
