"""Linear layers for the few rows of a decoding step on a CPU, where reading the weights takes the time.

The faster layouts need two operators of oneDNN that torch does not document (torch.compile uses them for constant
weights). A build without them gets the documented operators, and the same numbers up to rounding.

Legend: B rows, I inputs, O outputs.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# x [B, I], bias or residual y [O] or [B, O] or None -> x W^T + y [B, O], all in fp32
LinearFn = Callable[[Tensor, Tensor | None], Tensor]
ONEDNN_MIN_WEIGHTS = (
    200_000  # for fewer, the longer call of oneDNN costs more than its layout saves
)


def float32(weight: Tensor, rows: int) -> LinearFn:
    """Store the weight [O, I] in the layout that is fastest to read for this batch size and number of threads."""
    is_shared = rows > 1 or torch.get_num_threads() > 1
    if is_shared and weight.numel() >= ONEDNN_MIN_WEIGHTS and _has_onednn():
        return _add_after(_onednn(weight))
    transposed = weight.t()
    if rows > 1 or weight.shape[1] <= weight.shape[0]:
        transposed = transposed.contiguous()
    return lambda x, y: torch.mm(x, transposed) if y is None else torch.addmm(y, x, transposed)


def bfloat16(weight: Tensor, rows: int) -> LinearFn:  # noqa: ARG001
    """Store the weight in bf16, half the bytes, and multiply in bf16."""
    half = weight.bfloat16()
    if _has_onednn() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        linear = _onednn(half)
        return _add_after(lambda x: linear(x.bfloat16()).float())
    return _add_after(lambda x: F.linear(x.bfloat16(), half).float())


def _add_after(linear: Callable[[Tensor], Tensor]) -> LinearFn:
    return lambda x, y: linear(x) if y is None else linear(x).add_(y)


def _has_onednn() -> bool:
    operators = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in operators
    )


def _onednn(weight: Tensor) -> Callable[[Tensor], Tensor]:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
