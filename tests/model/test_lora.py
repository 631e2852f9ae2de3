import pytest
import torch
from models import a_model

from gptexp.model import lora


def test_adaptation_starts_as_nothing_trains_its_factors_only_and_merges_into_plain_weights():
    model, tokens = a_model(), torch.randint(50, (2, 8))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = model(tokens)
    lora.add(model, rank=2, alpha=4.0, targets=["query", "down"])
    torch.testing.assert_close(model(tokens), plain)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name for name in trained)
    assert len(trained) == 2 * 2 * 2  # A and B, of two layers, in two blocks
    assert all(model.state_dict()[name].equal(tensor) for name, tensor in before.items())
    for name in trained:
        torch.nn.init.normal_(model.get_parameter(name), std=0.1)
    adapted = model(tokens)
    assert not torch.allclose(adapted, plain)
    lora.merge(model)
    torch.testing.assert_close(model(tokens), adapted)
    assert model.state_dict().keys() == before.keys()


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"no layer is called gate; there are .*query"):
        lora.add(a_model(feed_forward="gelu"), 2, 4.0, ["gate"])
