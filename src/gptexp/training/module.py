"""The LightningModule: one optimizer step is one batch of Lightning, and reads like the algorithm.

Lightning gives devices, strategies, precision and loops. The clock is our own `step`, the random numbers of a step
follow from (seed, step, rank), and the loss is divided by the valid targets of the whole global batch.
"""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torchmetrics import SumMetric

from gptexp.config.schema import Config
from gptexp.data.batch import Batch
from gptexp.data.order import mixed
from gptexp.model import Transformer
from gptexp.training import optim
from gptexp.training.hardware import micro_batch_tokens
from gptexp.training.schedule import share_of_peak


class Module(L.LightningModule):
    def __init__(self, model: Transformer, config: Config) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.config = model, config
        self.step, self.tokens, self.seconds = 0, 0, 0.0  # done so far, restored from a checkpoint
        self.train_loss: Tensor | None = None  # of the last step: nats a target, this rank's part
        self.learning_rate = 0.0
        self.held_out_loss, self.held_out_targets = SumMetric(), SumMetric()

    def configure_optimizers(self) -> Any:
        return optim.build(self.model, self.config.optim)

    def training_step(self, batch: Batch, _: int) -> None:
        seed_step(self.config.seed, self.step, self.global_rank)
        optimizers = self._optimizers()
        self._set_learning_rate(optimizers)

        loss = torch.zeros((), device=self.device)
        for micro in batch.split(self.config.trainer.micro_batch, micro_batch_tokens(self.device)):
            loss_sum = self.model.loss(micro.tokens, micro.targets, micro.documents)
            share = loss_sum / max(1, batch.total_targets)
            self.manual_backward(share * self.trainer.world_size)  # strategies average gradients over ranks
            loss += share.detach()
        if self.config.optim.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.grad_clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

        self.train_loss = loss
        self.step += 1
        self.tokens += batch.total_tokens

    def validation_step(self, batch: Batch, _: int) -> None:
        self.held_out_loss.update(self.model.loss(batch.tokens, batch.targets, batch.documents))
        self.held_out_targets.update((batch.targets >= 0).sum())

    def on_validation_epoch_start(self) -> None:
        for metric in (self.held_out_loss, self.held_out_targets):
            metric.set_dtype(torch.float64)
            metric.reset()

    def validation_loss(self) -> float:
        """Nats a target over the whole validation split, summed over all ranks."""
        return float(self.held_out_loss.compute() / self.held_out_targets.compute())

    def global_train_loss(self) -> float:
        """The last step's loss over all ranks."""
        assert self.train_loss is not None
        loss = self.train_loss.clone()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(loss)
        return float(loss)

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def _set_learning_rate(self, optimizers: list[Any]) -> None:
        share = share_of_peak(self.config.optim, self.step, self.config.trainer.max_steps)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * share
        self.learning_rate = self.config.optim.lr * share


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout of a step is a function of (seed, step, rank): no generator state has to be saved or restored."""
    state = mixed(np.array([seed], np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(step * 65536 + rank))
    torch.manual_seed(int(state[0] >> np.uint64(1)))
