"""Muon: momentum whose matrix is made orthogonal before it is applied (Jordan et al. 2024).

Why not torch.optim.Muon: it multiplies in bf16 one matrix at a time, which on a CPU without native bf16 is ten times
slower than fp32. Here matrices of one shape are stacked, and the caller says which precision the machine is good at.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gptexp.distributed.sharding import full_tensor, shard_like
from gptexp.model.cost import MAX_STACKED_ELEMENTS

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from the same source
ITERATIONS = 5


class Muon(Optimizer):
    """For weight matrices of hidden layers. Nesterov momentum, decoupled weight decay.

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
                some = max(1, MAX_STACKED_ELEMENTS // shape.numel())
                for start in range(0, len(parameters), some):
                    chosen = parameters[start : start + some]
                    self._update(chosen, group["lr"], group["momentum"], group["weight_decay"])
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
        updates = newton_schulz(torch.stack(directions), self.dtype)  # [matrices, rows, columns]
        rows, columns = updates.shape[1:]
        scale = max(1.0, rows / columns) ** 0.5
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - lr * weight_decay)
            parameter.add_(shard_like(update.to(parameter.dtype), parameter), alpha=-lr * scale)


def newton_schulz(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Each matrix [N, rows, columns] with its singular values moved close to 1, by a Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    with torch.autocast(x.device.type, enabled=False):  # a step is inside of Lightning's
        for _ in range(ITERATIONS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
