"""Optimizers of others resume to the bit, whatever they keep."""

import json
from copy import deepcopy

import pytest
import torch
from conftest import same_weights

from gptexp.checkpoints.optimizer_state import Encoded, OptimizerState
from gptexp.errors import RunError
from gptexp.stored_tensors import compute_stored


class Eccentric(torch.optim.Optimizer):
    """Keeps Python numbers, group state, nested lists of tensors, counters of other types, and an attribute."""

    def __init__(self, params, lr=0.1, decay=0.5):
        super().__init__(params, {"lr": lr, "decay": decay, "betas": (0.9, 0.99)})
        self.updates = 0

    def state_dict(self):
        return {**super().state_dict(), "updates": self.updates}

    def load_state_dict(self, state_dict):
        self.updates = state_dict["updates"]
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure=None):
        self.updates += 1
        for group in self.param_groups:
            group["weight_sum"] = group.get("weight_sum", 0.0) + 1 / self.updates
            group["betas"] = (group["betas"][0] * 0.9, 0.99)
            group["largest"] = torch.maximum(
                group.get("largest", torch.zeros(())), group["params"][0].grad.abs().max()
            )
            for p in group["params"]:
                state = self.state[p]
                state["count"] = state.get("count", 0) + 1
                state["seen"] = state.get("seen", torch.zeros(p.shape, dtype=torch.int64)) + 1
                state["history"] = [p.grad.clone(), *state.get("history", [])][:2]
                state["best"] = None
                mean = sum(state["history"]) / len(state["history"])
                p -= group["lr"] * group["betas"][0] * mean / (state["count"] * group["largest"])


def make_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))


def train(model, optimizer, steps):
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(3, 4)).square().sum().backward()
        optimizer.step()


def store(encoded: Encoded) -> Encoded:
    """Return what a checkpoint gives back: JSON, and copies of the tensors."""
    stored = {
        name: compute_stored(tensor.shape, tensor.dtype, tensor.clone)
        for name, tensor in deepcopy(encoded.tensors).items()
    }
    return Encoded(json.loads(json.dumps(encoded.values)), stored=stored)


@pytest.mark.parametrize(
    "make",
    [
        Eccentric,
        lambda params: torch.optim.Adafactor(params, lr=0.1),
        lambda params: torch.optim.NAdam(params, lr=0.01),
        lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
        lambda params: torch.optim.ASGD(params, lr=0.1),
    ],
    ids=["eccentric", "adafactor", "nadam", "sgd", "asgd"],
)
def test_a_resumed_optimizer_updates_as_if_never_interrupted(make):
    model = make_model()
    optimizer = make(model.parameters())
    state = OptimizerState(model, [optimizer])
    train(model, optimizer, range(3))
    encoded, weights = store(state.encode()), deepcopy(model.state_dict())
    train(model, optimizer, range(3, 6))
    resumed = make_model()
    resumed.load_state_dict(weights)
    restarted = make(resumed.parameters())
    resumed_state = OptimizerState(resumed, [restarted])
    resumed_state.load(encoded)
    train(resumed, restarted, range(3, 6))
    assert same_weights(resumed, model)
    ours, theirs = resumed_state.encode(), state.encode()
    assert ours.values == theirs.values
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in theirs.tensors)
    assert all(ours.tensors[name].dtype == theirs.tensors[name].dtype for name in theirs.tensors)


def test_settings_come_from_the_config_and_not_from_the_checkpoint():
    model = make_model()
    optimizer = Eccentric(model.parameters())
    state = OptimizerState(model, [optimizer])
    train(model, optimizer, range(2))
    changed = Eccentric(model.parameters(), lr=0.2, decay=0.7)
    OptimizerState(model, [changed]).load(store(state.encode()))
    [group] = changed.param_groups
    assert (group["lr"], group["decay"]) == (0.2, 0.7)
    assert group["weight_sum"] == 1.5
    assert group["betas"] == pytest.approx((0.729, 0.99))


def test_a_value_that_a_checkpoint_cannot_hold_is_refused_with_the_optimizers_name():
    model = make_model()
    optimizer = Eccentric(model.parameters())
    state = OptimizerState(model, [optimizer])
    optimizer.state[next(model.parameters())]["rng"] = torch.Generator()
    with pytest.raises(
        RunError, match=r"Eccentric cannot be saved: 0/0\.weight/rng is of type Gen"
    ):
        state.encode()


def test_the_state_of_another_optimizer_is_refused():
    model = make_model()
    encoded = OptimizerState(model, [Eccentric(model.parameters())]).encode()
    with pytest.raises(ValueError, match="of the optimizers Eccentric, not of SGD"):
        OptimizerState(model, [torch.optim.SGD(model.parameters(), lr=1)]).load(store(encoded))
