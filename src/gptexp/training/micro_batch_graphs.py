"""Replay the forward and backward pass of a micro-batch as one CUDA graph.

Python needs 10 ms or more to launch the kernels of a step, whatever their size: a small model on a large GPU mostly
waits for it. A replayed step computes the same with the same random numbers: CUDA's generator hands its seed and its
offset to the graph.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from gptexp.config.schema import TrainerConfig
from gptexp.generation.cuda_graphs import CudaGraphs
from gptexp.loss import LossCounts
from gptexp.model import Transformer
from gptexp.model.cost import count_parameters
from gptexp.tasks.layout import Layout

# A larger model keeps a GPU busy, and a graph has activations of its own.
MAX_PARAMETERS = 20_000_000
MAX_SHAPES = 8  # of micro-batches, before they count as varying


def can_replay(
    config: TrainerConfig,
    model: Transformer,
    layout: Layout,
    device: torch.device,
    ranks: int,
    callbacks: Collection[L.Callback],
) -> bool:
    """Return whether a run replays its micro-batches: a small model on one GPU, whose batches all have one shape.

    Experts may tell the host how many tokens each of them has, and activation checkpointing reads the state of the
    random generator: neither can be recorded. Other kernels may run in the first steps of a process, so a run that has
    to repeat to the bit does without graphs. A graph runs no Python: a subclass of the model may compute in it, and a
    callback may change from step to step what the model computes.

    Args:
        callbacks: those of the user.
    """
    is_one_shape = layout.has_fixed_lengths and layout.predicts_next and not model.config.experts
    has_own_python = type(model) is not Transformer or bool(callbacks)
    is_alone = device.type == "cuda" and ranks == 1 and not config.is_sharded
    return (
        is_alone
        and is_one_shape
        and not has_own_python
        and config.compile != "false"
        and not config.deterministic
        and config.activation_checkpointing == "none"
        and count_parameters(model.config) <= MAX_PARAMETERS
    )


class MicroBatchGraphs:
    """Runs the passes of micro-batches, the first of a shape as they are, the others as graphs.

    Inputs and gradients keep their places in memory. On a CPU, nothing is recorded.

    Args:
        compute: runs both passes and adds to the gradients of `parameters`.
    """

    def __init__(
        self,
        compute: Callable[[dict[str, Any], LossCounts], Tensor],
        parameters: Iterable[nn.Parameter],
        device: torch.device,
    ) -> None:
        self.compute, self.parameters, self.device = compute, list(parameters), device
        self.clear()

    def clear(self) -> None:
        """Forget all shapes, and free their memory."""
        self.graphs = CudaGraphs(self.device, "training")
        self.inputs: dict[Any, list[Any]] = {}  # by shape
        self.gradients: dict[nn.Parameter, Tensor] = {}

    def run(self, inputs: dict[str, Any], counts: LossCounts) -> Tensor:
        """Compute a micro-batch; return the result of `compute`."""
        leaves, structure = tree_flatten(inputs)
        sizes = [tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        # An optimizer may give parameters other memory, which a graph would not read.
        places = [(parameter.data_ptr(), parameter.requires_grad) for parameter in self.parameters]
        key = (*sizes, counts, *places)
        if key not in self.inputs:
            if len(self.inputs) == MAX_SHAPES:
                self.clear()
                self.graphs.is_on = False
            self.inputs[key] = [
                leaf.to(self.device) if isinstance(leaf, Tensor) else leaf for leaf in leaves
            ]
        own = self.inputs[key]
        for tensor, leaf in zip(own, leaves, strict=True):
            if isinstance(tensor, Tensor):
                tensor.copy_(leaf, non_blocking=True)
        self._keep_gradients()
        result = self.graphs.run(
            key, lambda: self.compute(tree_unflatten(own, structure), counts)
        ).clone()
        if not self.gradients:
            self.gradients = {
                parameter: torch.zeros_like(parameter)
                for parameter in self.parameters
                if parameter.grad is not None
            }
        return result

    def _keep_gradients(self) -> None:
        """Let the parameters have the gradients that graphs add to; those of a new step are zero."""
        without = [own for parameter, own in self.gradients.items() if parameter.grad is None]
        if without:
            torch._foreach_zero_(without)
        for parameter, own in self.gradients.items():
            if parameter.grad is not None and parameter.grad is not own:
                own.copy_(parameter.grad)
            parameter.grad = own
