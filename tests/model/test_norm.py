import pytest
import torch

from gptexp.model.norm import RMSNorm


def test_a_norm_keeps_the_precision_of_its_input_where_autocast_would_not():
    """torch 2.12 computes rms_norm in fp32 under autocast on CUDA; here autocast on the CPU does so."""

    def in_fp32(x, shape, weight=None, eps=None):
        with torch.autocast("cpu", enabled=False):
            return torch.rms_norm(x.float(), shape, weight.float(), eps)

    norm = RMSNorm(8)
    x = torch.randn(2, 8)
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("rms_norm", in_fp32, "AutocastCPU", allow_override=True)
        with torch.autocast("cpu", torch.bfloat16):
            plain = torch.nn.functional.rms_norm(x.bfloat16(), (8,), norm.weight.bfloat16())
            assert plain.dtype == torch.float32
            assert norm(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x), torch.nn.functional.rms_norm(x, (8,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_has_the_gradients_of_its_formula(dtype):
    torch.manual_seed(0)
    norm = RMSNorm(24, eps=1e-6)
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    x = torch.randn(5, 7, 24).to(dtype).requires_grad_()
    exact_x, exact_weight = (t.detach().double().requires_grad_() for t in (x, norm.weight))
    gradient = torch.randn(5, 7, 24).to(dtype)
    expected = exact_x * (exact_x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * exact_weight
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    )

    y = norm(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, **tolerance)
    for actual, exact in zip(
        torch.autograd.grad(y, (x, norm.weight), gradient),
        torch.autograd.grad(expected, (exact_x, exact_weight), gradient.double()),
        strict=True,
    ):
        torch.testing.assert_close(actual.double(), exact, **tolerance)


def test_a_norm_with_a_frozen_weight_passes_the_gradient_on():
    norm = RMSNorm(8).requires_grad_(False)
    x = torch.randn(2, 8, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert norm.weight.grad is None
