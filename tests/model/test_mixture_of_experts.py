import pytest
import torch
from models import a_model
from torch.nn import functional as F

from gptexp.model import TransformerConfig, mixture_of_experts
from gptexp.model.mixture_of_experts import Routing, balance_loss

MOE = {"experts": 5, "experts_per_token": 2, "balance_loss": 0.1}
KINDS = [MOE, {**MOE, "shared_experts": 2, "feed_forward": "gelu", "experts_per_token": 3}]


def expert(layer, number, x):
    up = F.linear(x, layer.up.weight[number])
    if layer.gate is None:
        hidden = F.gelu(up, approximate="tanh")
    else:
        hidden = F.silu(F.linear(x, layer.gate.weight[number])) * up
    return F.linear(hidden, layer.down.weight[number])


@pytest.mark.parametrize("switches", KINDS)
def test_a_token_gets_the_weighted_outputs_of_its_experts(switches):
    layer = a_model(**switches).blocks[0].feed_forward
    x = torch.randn(2, 7, 32)
    for row, y in zip(x.view(-1, 32), layer(x).view(-1, 32), strict=True):
        probabilities = F.linear(row, layer.router.weight).softmax(dim=-1)
        chosen = probabilities.argsort(descending=True)[: switches["experts_per_token"]].tolist()
        total = sum(probabilities[number] for number in chosen)
        expected = sum(probabilities[i] / total * expert(layer, i, row) for i in chosen)
        if layer.shared is not None:
            expected = expected + layer.shared(row)
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("switches", KINDS)
def test_one_kernel_for_all_experts_computes_the_same_without_waiting_for_counts(
    switches, monkeypatch
):
    layer = a_model(**switches).blocks[0].feed_forward
    x, gradients = torch.randn(2, 7, 32), []
    for function in (layer, torch.compile(layer, backend="eager", fullgraph=True)):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            function(x).float().square().sum().backward()
        gradients.append([parameter.grad for parameter in layer.parameters()])
        monkeypatch.setattr(mixture_of_experts, "GROUPED_DEVICES", ("cpu",))
    torch.testing.assert_close(*gradients, rtol=0.02, atol=0.02)


def test_an_expert_that_reads_nothing_has_a_gradient_of_zero():
    """DDP waits for the gradient of every parameter."""
    layer = a_model(**MOE).blocks[0].feed_forward
    layer(torch.randn(1, 1, 32)).sum().backward()
    used = layer.routing.chosen[0, 0].bool()
    assert used.sum() == 2
    for part in (layer.gate, layer.up, layer.down):
        assert (part.weight.grad.abs().sum(dim=(1, 2)) > 0).equal(used)


def a_routing(chosen, probabilities):
    return Routing(torch.tensor([probabilities]), torch.tensor([chosen]))


def test_an_even_load_costs_one_a_token_and_an_uneven_one_more():
    even = a_routing([[1.0, 0], [0, 1]], [[0.9, 0.1], [0.1, 0.9]])
    torch.testing.assert_close(balance_loss(even), torch.tensor(2.0))
    uneven = a_routing([[1.0, 0], [1, 0]], [[0.9, 0.1], [0.7, 0.3]])
    torch.testing.assert_close(balance_loss(uneven), torch.tensor(2 * 2 * 0.8))
    padded = a_routing([[1.0, 0], [1, 0], [0, 1]], [[0.9, 0.1], [0.7, 0.3], [0.5, 0.5]])
    torch.testing.assert_close(
        balance_loss(padded.without_padding(torch.tensor([2]))), torch.tensor(2 * 2 * 0.8)
    )


@pytest.mark.parametrize("more", [{}, {"arch": "encoder_decoder"}])
def test_the_balance_is_part_of_the_loss_in_training_and_sums_over_sequences(more):
    model, tokens = a_model(**MOE, **more), torch.randint(50, (3, 9))
    targets = torch.randint(50, (3, 9))
    sizes = {"prefix": torch.tensor([3, 4, 2]), "lengths": torch.tensor([9, 6, 7])}
    assert model.loss(tokens, targets, **sizes).auxiliary == 0
    model.train()
    together = model.loss(tokens, targets, **sizes).auxiliary
    alone = torch.zeros(())
    for row, end in enumerate(sizes["lengths"].tolist()):
        size = {name: value[row : row + 1] for name, value in sizes.items()}
        loss = model.loss(tokens[row : row + 1, :end], targets[row : row + 1, :end], **size)
        alone = alone + loss.auxiliary
    torch.testing.assert_close(together, alone)
    together.backward()
    routers = [p for name, p in model.named_parameters() if ".router." in name]
    assert len(routers) == (4 if model.encoder else 2)
    assert all(router.grad.abs().sum() > 0 for router in routers)


def test_the_load_is_counted_without_padding():
    model, tokens = a_model(**MOE), torch.randint(50, (2, 9))
    lengths = torch.tensor([9, 4])
    sums = model.loss(tokens, tokens, lengths=lengths)
    counts = sums.statistics.view(2, 5)  # layers, experts
    assert counts.sum(dim=1).tolist() == [2 * 13] * 2
    short = model.loss(tokens[1:, :4], tokens[1:, :4]).statistics
    long = model.loss(tokens[:1], tokens[:1]).statistics
    assert torch.equal(sums.statistics, short + long)
    busiest = max(float(row.max() / row.mean()) for row in counts)
    assert model.report(sums.statistics) == {"expert_load": pytest.approx(busiest)}
    assert a_model().report(a_model().loss(tokens, tokens).statistics) == {}


def test_the_balance_loss_evens_the_load():
    model = a_model(**{**MOE, "balance_loss": 1.0}).train()
    tokens = torch.randint(50, (4, 24))
    optimizer = torch.optim.AdamW(
        [p for name, p in model.named_parameters() if ".router." in name], lr=0.02
    )

    def busiest():
        return model.report(model.loss(tokens, tokens).statistics)["expert_load"]

    before = busiest()
    for _ in range(60):
        optimizer.zero_grad()
        (model.loss(tokens, tokens).auxiliary / tokens.numel()).backward()
        optimizer.step()
    assert busiest() < 1.4 < before


@pytest.mark.parametrize(
    ("switches", "reason"),
    [
        ({"experts_per_token": 1}, "experts_per_token=1: must be between 2 and experts=4"),
        ({"experts_per_token": 5}, "experts_per_token=5"),
        ({"bias": True}, "experts have no biases"),
    ],
)
def test_what_experts_do_not_have_is_refused(switches, reason):
    shape = {"vocab_size": 9, "layers": 1, "d_model": 8, "heads": 2, "kv_heads": 2}
    with pytest.raises(ValueError, match=reason):
        TransformerConfig(**shape, d_ff=8, context=8, experts=4, **switches)
