"""x W^T + y for the few rows x that one step of generation has, on CPUs.

There the way of the weights from memory takes the time: they are laid out as they are read, or take fewer bytes.

Legend: B rows, I inputs, O outputs.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

LinearFn = Callable[
    [Tensor, Tensor | None], Tensor
]  # x [B, I], y [B, O] or [O] or None -> [B, O], all in fp32
LARGE = 200_000  # weights from which oneDNN's layout is worth its longer call
TINY = torch.finfo(torch.float32).tiny


def float32(weight: Tensor, rows: int) -> LinearFn:
    """weight [O, I] in the layout that is faster to read for so many rows and threads."""
    shared = rows > 1 or torch.get_num_threads() > 1
    if shared and weight.numel() >= LARGE and torch.backends.mkldnn.is_available():
        return _plus(_onednn(weight))
    turned = (
        weight.t() if rows == 1 and weight.shape[1] > weight.shape[0] else weight.t().contiguous()
    )
    return lambda x, y: torch.mm(x, turned) if y is None else torch.addmm(y, x, turned)


def bfloat16(weight: Tensor, rows: int) -> LinearFn:  # noqa: ARG001
    """Weights in bf16, and x too while it is multiplied: half the bytes."""
    half = weight.bfloat16()
    if torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        product = _onednn(half)
        return _plus(lambda x: product(x.bfloat16()).float())
    return _plus(lambda x: F.linear(x.bfloat16(), half).float())


def int8(weight: Tensor, rows: int) -> LinearFn:  # noqa: ARG001
    """Weights in 8 bits, with a scale for each output: a quarter of the bytes."""
    scale = weight.abs().amax(dim=1).clamp(min=TINY) / 127  # [O]
    small = (weight / scale[:, None]).round().to(torch.int8)
    if not _int8_matmul_is_exact():
        return _plus(
            lambda x: torch._weight_int8pack_mm(x.bfloat16(), small, scale.bfloat16()).float()
        )
    packed, zeros = (
        torch.ops.onednn.qlinear_prepack(small, None),
        torch.zeros_like(scale, dtype=torch.int32),
    )

    def product(x: Tensor) -> Tensor:
        # x in 15 bits, as the sum of a coarse and a fine row of 8 bits: it loses less than in bf16.
        unit = (
            torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True).div_(127).clamp_(min=TINY)
        )  # [B, 1]
        exact = x / unit
        coarse = exact.round()
        both = (
            torch.cat((coarse, (exact - coarse).mul_(254))).round_().add_(128).to(torch.uint8)
        )  # [2 B, I]
        if len(x) == 1:
            both = both.repeat(2, 1)  # oneDNN takes less time for 4 rows than for 2
        coarse, fine = _byte_product(both, packed, scale, zeros)[: 2 * len(x)].chunk(2)
        return torch.add(coarse, fine, alpha=1 / 254).mul_(unit)

    return _plus(product)


def _plus(product: Callable[[Tensor], Tensor]) -> LinearFn:
    return lambda x, y: product(x) if y is None else product(x).add_(y)


def _onednn(weight: Tensor) -> Callable[[Tensor], Tensor]:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


def _byte_product(rows: Tensor, packed: Tensor, scale: Tensor, zeros: Tensor) -> Tensor:
    """rows [B, I] uint8 from 0 to 255, which stand for -128 to 127."""
    return torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, 128, packed, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


@cache
def _int8_matmul_is_exact() -> bool:
    """Whether this build has the operation, and the processor's sums of byte products do not overflow."""
    weight, rows = (
        torch.full((64, 64), 127, dtype=torch.int8),
        torch.full((2, 64), 255, dtype=torch.uint8),
    )
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        product = _byte_product(rows, packed, torch.ones(64), torch.zeros(64, dtype=torch.int32))
    except (RuntimeError, AttributeError):
        return False
    return bool((product == 64 * 127 * 127).all())
