"""Histograms of the gradients, for a logger that shows them."""

from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from gptexp.runs.trackers import Tracker
from gptexp.training.module import TrainModule

BINS = 64


class GradientHistograms(L.Callback):
    """Logs a histogram of each parameter's gradient after clipping, every `every` steps."""

    def __init__(self, tracker: Tracker, every: int) -> None:
        self.tracker, self.every = tracker, every

    def on_before_optimizer_step(
        self, trainer: L.Trainer, module: TrainModule, optimizer: torch.optim.Optimizer
    ) -> None:
        step = module.step + 1  # that is about to be done
        if step % self.every or optimizer is not trainer.optimizers[0]:
            return  # the first optimizer finds the gradients of all
        histograms = {}
        for name, parameter in module.model.named_parameters():
            if parameter.grad is None:
                continue
            gradient = parameter.grad
            if isinstance(gradient, DTensor):
                gradient = gradient.full_tensor()  # all ranks gather it together
            if module.process_group.is_rank_zero:
                histograms[f"gradients/{name}"] = _count(gradient)
        if histograms:
            self.tracker.log_histograms(step, histograms)


def _count(values: Tensor) -> tuple[Any, Any]:
    """Return the counts of values in equal bins, and the edges of the bins."""
    return np.histogram(values.detach().float().cpu().numpy(), BINS)
