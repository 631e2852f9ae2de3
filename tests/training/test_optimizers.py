from itertools import pairwise

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gptexp.checkpoints.load_model import build_model
from gptexp.config import compose, schema
from gptexp.training import muon
from gptexp.training.muon import Muon, newton_schulz
from gptexp.training.optimizers import build_optimizers
from gptexp.training.schedule import Constant, Cosine, Linear


@pytest.mark.parametrize("shape", [(2, 40, 8), (2, 8, 40), (1, 64, 24)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    values = torch.linalg.svdvals(newton_schulz(torch.randn(shape), torch.float32))
    assert ((values > 0.6) & (values < 1.3)).all()


def test_muon_follows_torchs_own():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(24, 12)) for _ in range(2))
    one = Muon([ours], lr=0.02, momentum=0.95, weight_decay=0.1, dtype=torch.bfloat16)
    two = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.1, nesterov=True)
    for _ in range(5):
        ours.grad = torch.randn(24, 12)
        theirs.grad = ours.grad.clone()
        one.step()
        two.step()
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)  # bf16 inside


def test_a_step_of_muon_does_not_depend_on_autocast_or_on_what_is_stacked(monkeypatch):
    made = []
    for stacked, dtype in ((1 << 26, torch.float32), (100, torch.bfloat16)):
        monkeypatch.setattr(muon, "MAX_STACKED_ELEMENTS", stacked)
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(12, 8)) for _ in range(3)]
        for weight in weights:
            weight.grad = torch.randn(12, 8)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            Muon(weights, lr=0.02, momentum=0.95, weight_decay=0.1, dtype=torch.float32).step()
        made.append(torch.stack(weights))
    torch.testing.assert_close(*made, atol=1e-6, rtol=0)


def test_the_iteration_of_muon_is_in_its_own_type_under_cudas_autocast(monkeypatch):
    vector_norm, made = torch.linalg.vector_norm, []

    def vector_norm_of_cuda(x, *arguments, **options):  # its autocast computes norms in fp32
        norm = vector_norm(x, *arguments, **options)
        return norm.float() if torch.is_autocast_enabled("cpu") else norm

    def baddbmm(x, *arguments, **options):
        made.append(x.dtype)
        return plain(x, *arguments, **options)

    plain = torch.baddbmm
    monkeypatch.setattr(torch.linalg, "vector_norm", vector_norm_of_cuda)
    monkeypatch.setattr(torch, "baddbmm", baddbmm)
    with torch.autocast("cpu", torch.bfloat16):
        newton_schulz(torch.randn(2, 8, 4), torch.bfloat16)
    assert set(made) == {torch.bfloat16}


class CountOperations(TorchDispatchMode):
    """Count operations other than views, each of which launches a kernel or a few."""

    def __enter__(self):
        self.count = 0
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.namespace == "aten" and not function.is_view
        return function(*args, **(kwargs or {}))


def test_a_step_of_muon_launches_as_much_for_many_layers_as_for_one():
    counts = []
    for layers in (1, 12):
        with FakeTensorMode():
            shapes = [(768, 768), (3072, 768), (768, 3072)] * layers
            weights = [torch.nn.Parameter(torch.empty(shape)) for shape in shapes]
            optimizer = Muon(weights, 0.02, momentum=0.95, weight_decay=0.1, dtype=torch.bfloat16)
            for _ in range(2):  # the first step creates the momentum
                for weight in weights:
                    weight.grad = torch.empty_like(weight)
                with CountOperations() as operations:
                    optimizer.step()
            counts.append(operations.count)
    assert counts[0] == counts[1] < 100


def test_muon_takes_stacked_experts_one_by_one(monkeypatch):
    monkeypatch.setattr(muon, "MAX_STACKED_ELEMENTS", 200)  # two experts at once
    torch.manual_seed(0)
    stacked = torch.nn.Parameter(torch.randn(5, 12, 8))
    alone = [torch.nn.Parameter(matrix.clone()) for matrix in stacked.detach()]
    for _ in range(3):
        stacked.grad = torch.randn(5, 12, 8)
        for weight, gradient in zip(alone, stacked.grad, strict=True):
            weight.grad = gradient.clone()
        for weights in ([stacked], alone):
            optimizer = Muon(weights, 0.02, momentum=0.95, weight_decay=0.1, dtype=torch.float32)
            optimizer.step()
    torch.testing.assert_close(stacked, torch.stack(alone), atol=1e-6, rtol=0)


def test_muon_takes_the_blocks_matrices_and_adamw_the_rest():
    config = compose.compose_config(["model=nano", "model.experts=4"])
    model = build_model(config, 50)
    hidden_ones, adamw = build_optimizers(model, schema.MuonConfig(lr=0.02, adamw_lr=0.005))
    named = model.blocks.named_parameters()
    hidden = {p for name, p in named if p.ndim >= 2 and not name.endswith("router.weight")}
    assert {p.ndim for p in hidden} == {2, 3}
    assert {p for group in hidden_ones.param_groups for p in group["params"]} == hidden
    rest = [p for group in adamw.param_groups for p in group["params"]]
    assert set(rest) == set(model.parameters()) - hidden
    assert len(rest) == len(set(rest))


def test_the_rate_warms_up_stays_and_decays():
    settings = {"warmup_steps": 10, "decay_fraction": 0.5, "final_lr_fraction": 0.1}
    linear = Linear(schema.LinearConfig(**settings))
    shares = [linear.multiplier(step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(1 / 11)
    assert shares[10:50] == [1.0] * 40
    assert all(a > b for a, b in pairwise(shares[49:]))
    assert shares[-1] == pytest.approx(0.1, abs=0.03)
    cosine = Cosine(schema.CosineConfig(**settings))
    assert cosine.multiplier(74, 100) == pytest.approx(0.55, abs=0.02)
    constant = Constant(schema.ConstantConfig(warmup_steps=10))
    assert [constant.multiplier(step, 100) for step in (0, 10, 99)] == [1 / 11, 1.0, 1.0]
