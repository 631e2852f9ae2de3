"""Operations with a backward pass of their own, which takes a third to a half of autograd's time on a CPU.

Autograd differentiates RMSNorm and the rotation of heads as a dozen operations, each of which reads and writes all
numbers. A compiler fuses them, and a GPU has fused kernels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor
from torch.nn import functional as F


def trains_on_cpu(x: Tensor) -> bool:
    """Return whether autograd differentiates what is computed from x, on a CPU and uncompiled."""
    is_eager = not (isinstance(x, DTensor) or torch.compiler.is_compiling())
    return is_eager and x.device.type == "cpu" and x.requires_grad


class RMSNormOnCPU(torch.autograd.Function):
    """x [..., C] with a weight [C], normalized in fp32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = torch.finfo(x.dtype).eps if eps is None else eps
        return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        gradient, width = gradients[0].float(), x.shape[-1]
        norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = (norms.square_() / width).add_(ctx.eps).rsqrt_()  # [..., 1]
        normalized = x * inverse
        product = gradient * normalized
        weight_gradient = product.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        mean = (product @ weight.float())[..., None] / width
        x_gradient = torch.mul(gradient, weight, out=product).addcmul_(normalized, mean, value=-1)
        return x_gradient.mul_(inverse).to(x.dtype), weight_gradient, None


class RotationOnCPU(torch.autograd.Function):
    """x [B, H, T, D], rotated as by positions.rotate; the backward pass is the rotation by the opposite angles."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        cos, sin = ctx.saved_tensors
        return _rotate(gradients[0], cos, -sin), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half, wide = x.shape[-1] // 2, x.float()
    rotated = wide * cos
    rotated[..., :half].addcmul_(wide[..., half:], sin[..., half:], value=-1)
    rotated[..., half:].addcmul_(wide[..., :half], sin[..., half:])
    return rotated.to(x.dtype)
