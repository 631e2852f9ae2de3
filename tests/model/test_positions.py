import pytest
import torch

from gptexp.model.positions import Rotary, rotate


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rotation_is_the_same_with_gradients_as_without(dtype):
    torch.manual_seed(0)
    cos, sin = Rotary(8, 10000.0, {})(torch.arange(5)[None])
    x = torch.randn(2, 3, 5, 8).to(dtype)
    plain = rotate(x, cos, sin)
    y = rotate(x.requires_grad_(), cos, sin)
    assert y.dtype == dtype
    torch.testing.assert_close(y, plain)

    gradient = torch.randn(y.shape).to(dtype)
    (actual,) = torch.autograd.grad(y, x, gradient)
    # The transposed rotation is the one by the opposite angles.
    torch.testing.assert_close(actual, rotate(gradient, cos, -sin))
    assert actual.dtype == dtype
