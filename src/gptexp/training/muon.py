"""Muon: momentum whose matrix is made orthogonal before it is applied (Jordan et al. 2024).

torch.optim.Muon multiplies in bf16 and one matrix at a time, which on a CPU without native bf16 is ten times slower
than fp32. Here matrices of one shape are stacked, and the caller chooses the precision that is fast on the machine.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gptexp.distributed.sharding import full_tensor, shard_like

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from the same source
ITERATIONS = 5
# Elements of the matrices that are orthogonalised at once; a larger matrix goes alone.
MAX_STACKED_ELEMENTS = 1 << 26


class Muon(Optimizer):
    """Optimize weight matrices of hidden layers, with Nesterov momentum and decoupled weight decay.

    A parameter is a matrix [rows, columns] or a stack of them [..., rows, columns], such as the layers of experts.

    Args:
        dtype: of the products inside the orthogonalisation; bf16 where the hardware has it, else fp32.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            same_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    same_shape[parameter.shape].append(parameter)
            for shape, parameters in same_shape.items():
                size = max(1, MAX_STACKED_ELEMENTS // shape.numel())
                for start in range(0, len(parameters), size):
                    chunk = parameters[start : start + size]
                    self._update(chunk, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _update(
        self, parameters: list[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffer, gradient = state["momentum_buffer"], parameter.grad
            assert gradient is not None
            buffer.lerp_(gradient, 1 - momentum)
            directions.append(full_tensor(gradient.lerp(buffer, momentum)))
        stack = torch.stack(directions)  # [parameters, ..., rows, columns]
        rows, columns = stack.shape[-2:]
        matrices = stack.view(-1, rows, columns)
        size = max(1, MAX_STACKED_ELEMENTS // (rows * columns))
        updates = torch.cat([newton_schulz(x, self.dtype) for x in matrices.split(size)])
        scale = max(1.0, rows / columns) ** 0.5
        for parameter, update in zip(parameters, updates.view(stack.shape), strict=True):
            parameter.mul_(1 - lr * weight_decay)
            parameter.add_(shard_like(update.to(parameter.dtype), parameter), alpha=-lr * scale)


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Return whether a parameter is a matrix of a hidden layer, which Muon is for.

    Embeddings and heads are matrices too, but of one-hot inputs or outputs, as are routers of experts: AdamW suits them
    better (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks").
    """
    return "blocks." in name and parameter.ndim >= 2 and ".router." not in name


def newton_schulz(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Move the singular values of each matrix [N, rows, columns] close to 1, by a Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    with torch.autocast(x.device.type, enabled=False):  # Lightning's surrounds a step
        for _ in range(ITERATIONS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
