"""The loss of many tokens without the logits of all of them: head and loss compute one chunk of tokens at a time.

With gradients, a chunk runs its backward pass at once, which frees its logits. The gradients of the states and of the
head wait for the backward pass of the model, and nothing is computed twice. Wijmans et al. 2024 (arXiv 2411.09009)
measure how the logits of a large vocabulary come to dominate the memory of training.

Legend: N tokens with a target, C width, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# Logits up to which a batch is one chunk, and those of a chunk where there are several. On a CPU, the batches of small
# vocabularies stay one chunk, and short chunks stay near the caches. A GPU needs thousands of rows to be busy.
CPU_LOGITS = 1 << 26, 1 << 24
GPU_LOGITS = 1 << 28, 1 << 28
ALIGNMENT = 64  # rows of the weight on a GPU
ALIGNED_DEVICES = ("cuda",)


class Head(nn.Linear):
    """A linear layer without bias whose products in 16 bits have aligned rows on a GPU.

    Fast kernels refuse an odd vocabulary. Only the weight's copy in 16 bits has more rows: the parameter, and so
    checkpoints and optimizers, have those of the vocabulary.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """x [..., C] -> [..., V]; `weight` is the result of `cast_weight` for several calls."""
        if weight is None:
            weight = self.cast_weight(x) if x.device.type in ALIGNED_DEVICES else self.weight
        logits = F.linear(x, weight)
        return logits if len(weight) == self.out_features else logits[..., : self.out_features]

    def cast_weight(self, x: Tensor) -> Tensor:
        """Return the weight in the precision of its product with x; in 16 bits on a GPU, with aligned rows."""
        weight = self.weight
        if torch.is_autocast_enabled(x.device.type):
            weight = weight.to(torch.get_autocast_dtype(x.device.type))
        if weight.itemsize == 2 and x.device.type in ALIGNED_DEVICES:
            weight = align_rows(weight)
        return weight


def align_rows(weight: Tensor) -> Tensor:
    """Return a weight [V, C] with rows of zeros up to a multiple of ALIGNMENT."""
    return F.pad(weight, (0, 0, 0, -len(weight) % ALIGNMENT))


def count_chunk_rows(rows: int, outputs: int, on_gpu: bool) -> int:
    """Return how many of `rows` tokens with `outputs` logits each are computed at once: all, or a power of two."""
    largest, of_chunk = GPU_LOGITS if on_gpu else CPU_LOGITS
    if rows * outputs <= largest:
        return rows
    return 1 << max(0, (of_chunk // outputs).bit_length() - 1)


def sum_over_chunks(
    chunk_loss: Callable[..., Tensor], head: nn.Module, states: Tensor, targets: Tensor, rows: int
) -> Tensor:
    """Return chunk_loss(states, targets), computed on `rows` tokens at a time.

    Args:
        chunk_loss: of states [n, C], targets [n] and, for a Head, its cast weight; a sum over tokens.
    """
    weight = None
    if isinstance(head, Head):  # its weight is cast once for all chunks
        weight = head.cast_weight(states).detach().requires_grad_(head.weight.requires_grad)
    chunks = zip(states.split(rows), targets.split(rows), strict=True)
    total = states.new_zeros((), dtype=torch.float32)
    if not torch.is_grad_enabled():
        for chunk, chunk_targets in chunks:
            total += chunk_loss(chunk, chunk_targets, weight)
        return total

    states_gradient = torch.empty_like(states)
    gradients: dict[Tensor, Tensor] = {}
    for (chunk, chunk_targets), gradient in zip(chunks, states_gradient.split(rows), strict=True):
        chunk = chunk.detach().requires_grad_()
        loss = chunk_loss(chunk, chunk_targets, weight)
        parameters = [leaf for leaf in _find_leaves(loss) if leaf is not chunk]
        of_states, *of_parameters = torch.autograd.grad(
            loss, [chunk, *parameters], materialize_grads=True
        )
        gradient.copy_(of_states)
        for parameter, of_parameter in zip(parameters, of_parameters, strict=True):
            if parameter not in gradients:
                gradients[parameter] = torch.zeros_like(parameter, dtype=torch.float32)
            gradients[parameter] += of_parameter
        total += loss.detach()
    if isinstance(head, Head) and weight in gradients:
        gradients[head.weight] = gradients.pop(weight)[: head.out_features]
    return _KnownGradients.apply(total, [states_gradient, *gradients.values()], states, *gradients)


def sum_log_probs(
    model: Any, states: Tensor, targets: Tensor, positions: Tensor | None, shape: torch.Size
) -> Tensor:
    """Sum the log-probabilities of targets [N] over each row that they stand in -> [R].

    Logits that are too many at once are computed in chunks, and with gradients a second time in the backward pass: the
    gradient of a token depends on the sum of its row.

    Args:
        model: has a head that computes logits, and a config.
        states: [N, C] of the targets.
        positions: [N], of the targets in the flattened rows; None: every position has one.
        shape: R, T of the rows.
    """

    def compute(states: Tensor, targets: Tensor) -> Tensor:
        return -F.cross_entropy(model.head(states).float(), targets, reduction="none")

    size = count_chunk_rows(len(states), model.config.vocab_size, states.device.type == "cuda")
    if size >= len(states):
        log_probs = compute(states, targets)
    else:
        chunks = zip(states.split(size), targets.split(size), strict=True)
        parts = [
            checkpoint(compute, *x, use_reentrant=False, determinism_check="none") for x in chunks
        ]
        log_probs = torch.cat(parts)
    if positions is not None:  # no index_add: on a GPU, the order of its sums varies
        log_probs = log_probs.new_zeros(shape.numel()).index_copy(0, positions, log_probs)
    return log_probs.view(shape).sum(dim=1)


def compute_log_probs(model: Any, tokens: Tensor, targets: Tensor) -> Tensor:
    """Sum the log-probabilities of targets [R, T], but for negative ones, over each row of tokens [R, T] -> [R]."""
    positions = torch.nonzero(targets.flatten() >= 0).flatten()
    states, flat = model(tokens).flatten(0, 1)[positions], targets.flatten()[positions]
    return sum_log_probs(model, states, flat, positions, targets.shape)


def _find_leaves(loss: Tensor) -> list[Tensor]:
    """Return the tensors without a history that need gradients and that `loss` was computed from."""
    leaves, nodes, seen = [], [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # AccumulateGrad
            leaves.append(node.variable)
        nodes += [following for following, _ in node.next_functions]
    return leaves


class _KnownGradients(torch.autograd.Function):
    """A loss with gradients that are computed already."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *_: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_gradients: Tensor) -> Any:
        gradients, ctx.gradients = ctx.gradients, None
        return None, None, *(gradient.mul_(output_gradients[0]) for gradient in gradients)
