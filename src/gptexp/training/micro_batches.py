"""Micro-batches, cut on the CPU ahead of the step, so that the host never waits for numbers from a GPU."""

import inspect
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from gptexp.data.batch import Batch
from gptexp.model import Transformer


@dataclass
class CutBatch(Batch):
    """A batch with the inputs of its micro-batches of at most `size` sequences."""

    size: int | None = None
    micro_batches: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, batch: Batch, size: int | None, micro_batches: list[dict[str, Any]]) -> Self:
        return cls(**vars(batch), size=size, micro_batches=micro_batches)


def loss_inputs(model: Transformer, batch: Batch, device: torch.device) -> dict[str, Any]:
    """Return the arguments of Transformer.loss for a batch on the CPU, ready to move to the device."""
    inputs = batch.inputs()
    if device.type == "cpu":
        return inputs
    # The loss of a subclass may not take an index; it then waits for the GPU.
    if "index" in inspect.signature(type(model).loss).parameters:
        names = ("tokens", "targets", "prefix", "features")
        inputs["index"] = model.index(*(inputs[name] for name in names))
    if device.type == "cuda":
        inputs = apply_to_collection(inputs, Tensor, Tensor.pin_memory)
    return inputs
