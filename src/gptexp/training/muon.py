"""Muon: momentum whose matrix is made orthogonal before it is applied (Jordan et al. 2024).

torch.optim.Muon multiplies in bf16 and one matrix at a time, which on a CPU without native bf16 is ten times slower
than fp32. Here matrices of one shape are stacked, ranks share them out, and the caller chooses the precision that is
fast on the machine.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from gptexp.distributed.matrix_exchange import exchange_of
from gptexp.distributed.sharding import compute_device, local_tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from the same source
ITERATIONS = 5
# Elements of the matrices that are orthogonalised at once; a larger matrix goes alone.
MAX_STACKED_ELEMENTS = 1 << 26


class Muon(Optimizer):
    """Optimize weight matrices of hidden layers, with Nesterov momentum and decoupled weight decay.

    A parameter is a matrix [rows, columns] or a stack of them [..., rows, columns], such as the layers of experts. All
    ranks have the same parameters, as copies or as pieces (DTensor), and call `step` together.

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
        run_staggered(
            self._update(parameters, group["lr"], group["momentum"], group["weight_decay"])
            for group in self.param_groups
            for parameters in stackable(group["params"])
        )
        return loss

    def _update(
        self, parameters: list[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> Iterator[None]:
        """Update parameters of one shape; yield where other ranks are awaited."""
        exchange = exchange_of(parameters[0])
        weights = [local_tensor(parameter) for parameter in parameters]
        gradients = [local_tensor(p.grad) for p in parameters if p.grad is not None]
        buffers = [local_tensor(self._momentum_buffer(parameter)) for parameter in parameters]
        if not unstack(weights):  # experts that other ranks have
            return
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        directions = torch._foreach_lerp(
            exchange.select(unstack(gradients)), exchange.select(unstack(buffers)), momentum
        )
        stack = torch.stack(directions)  # [matrices, rows, columns]
        del directions  # memory
        exchange.send(stack.to(compute_device(parameters[0]), self.dtype))
        del stack
        if exchange.is_remote:
            yield
        exchange.send_results(orthogonalize(exchange.receive(), self.dtype))
        if exchange.is_remote:
            yield
        updates = exchange.receive_results().to(
            weights[0].device, weights[0].dtype, memory_format=torch.contiguous_format
        )
        rows, columns = parameters[0].shape[-2:]
        torch._foreach_mul_(weights, 1 - lr * weight_decay)
        torch._foreach_add_(
            unstack(weights), updates.unbind(), alpha=-lr * max(1.0, rows / columns) ** 0.5
        )

    def _momentum_buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Return whether a parameter is a matrix of a hidden layer, which Muon is for.

    Embeddings and heads are matrices too, but of one-hot inputs or outputs, as are routers of experts: AdamW suits them
    better (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks").
    """
    return "blocks." in name and parameter.ndim >= 2 and ".router." not in name


def stackable(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the parameters that have a gradient, in lists of one shape that lie on ranks alike."""
    alike: dict[Any, list[Tensor]] = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            layout = (
                (parameter.device_mesh, parameter.placements)
                if isinstance(parameter, DTensor)
                else ()
            )
            alike[(parameter.shape, layout)].append(parameter)
    for (shape, _), members in alike.items():
        rows, columns = shape[-2:]
        fitting = max(1, MAX_STACKED_ELEMENTS // (rows * columns))
        matrices = exchange_of(members[0]).limit(fitting)
        size = max(1, matrices * rows * columns // shape.numel())
        for start in range(0, len(members), size):
            yield members[start : start + size]


def unstack(tensors: list[Tensor]) -> list[Tensor]:
    """Return views of the matrices of tensors [..., rows, columns]."""
    if tensors[0].ndim == 2:
        return tensors
    return [matrix for tensor in tensors for matrix in tensor.view(-1, *tensor.shape[-2:]).unbind()]


def run_staggered(updates: Iterable[Iterator[None]]) -> None:
    """Run updates so that one computes while the tensors of the next and of the one before are on their way."""
    running: list[Iterator[None]] = []

    def advance() -> list[Iterator[None]]:
        return [update for update in running if next(update, "end") != "end"]

    for update in updates:
        running.insert(0, update)
        running = advance()
    while running:
        running = advance()


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Apply `newton_schulz` to matrices [N, rows, columns], as many at a time as MAX_STACKED_ELEMENTS allows."""
    size = max(1, MAX_STACKED_ELEMENTS // matrices.shape[1:].numel())
    parts = [newton_schulz(part, dtype) for part in matrices.split(size)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def newton_schulz(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Move the singular values of each matrix [N, rows, columns] close to 1, by a Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    # Lightning's autocast surrounds a step: on CUDA it would multiply in its own type, and compute the norm in fp32.
    with torch.autocast(x.device.type, enabled=False):
        x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
        for _ in range(ITERATIONS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
