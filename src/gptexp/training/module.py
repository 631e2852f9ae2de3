"""The LightningModule: one optimizer step is one batch of Lightning, and reads like the algorithm.

Lightning gives devices, strategies, precision and loops. The clock is our own `step`, the random numbers of a step
follow from (seed, step, rank), and the loss is divided by the valid targets of the whole global batch.
"""

import sys
from contextlib import nullcontext
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torchmetrics import SumMetric

from gptexp.config.schema import Config
from gptexp.data.batch import Batch
from gptexp.data.permutation import splitmix64
from gptexp.distributed.devices import micro_batch_tokens
from gptexp.distributed.process_group import ProcessGroup
from gptexp.distributed.sharding import full_tensor
from gptexp.distributed.signals import StopSignals
from gptexp.distributed.strategies import shard_model
from gptexp.errors import OutOfMemoryError, RunError
from gptexp.model import Transformer
from gptexp.training.crash import NotFiniteError, is_out_of_memory
from gptexp.training.optimizers import build_optimizers
from gptexp.training.schedule import build_schedule


class Module(L.LightningModule):
    def __init__(
        self, model: Transformer, config: Config, process_group: ProcessGroup, signals: StopSignals
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.config, self.process_group, self.signals = (
            model,
            config,
            process_group,
            signals,
        )
        self.is_sharded = False
        self.schedule = build_schedule(config.schedule)
        self.micro_batch_size = config.trainer.micro_batch_size
        self.step, self.tokens, self.seconds = 0, 0, 0.0  # done so far, restored from a checkpoint
        self.loss: float | None = (
            None  # of the last step: nats a target over the global batch; None: it was skipped
        )
        self.norm = 0.0  # of the last step's gradient
        self.learning_rate = 0.0
        self.stop_requested = False  # on some rank, and known to all of them
        # Of targets and of labels: the loss, and how many they are.
        self.held_out: Any = nn.ModuleList(SumMetric(nan_strategy="disable") for _ in range(4))

    def configure_model(self) -> None:
        if (
            self.config.trainer.strategy == "fsdp" and not self.is_sharded
        ):  # Lightning may call this twice
            shard_model(self.model, self.device_mesh, self.config.trainer)
            self.is_sharded = True

    def configure_optimizers(self) -> Any:
        return build_optimizers(self.model, self.config.optim)

    def training_step(self, batch: Batch, _: int) -> None:
        optimizers = self._optimizers()
        self._set_learning_rate(optimizers)
        seed_step(self.config.seed, self.step, self.process_group.rank)

        if self.step in self.config.trainer.skip_steps:
            nothing = torch.zeros((), device=self.device)
            self._agree(nothing, nothing)
            self.loss = None
        else:
            loss = self._backward(batch)
            norm = self._clipped_norm()
            total = self._agree(loss, norm)
            if not np.isfinite([total, self.norm]).all():  # before anything has changed
                raise NotFiniteError(total, self.norm, batch)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()

        self.step += 1
        self.tokens += batch.counts.tokens

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of the whole batch, and this rank's part of the loss; with smaller micro-batches where needed."""
        while True:
            try:
                return self._backward_once(batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            rows = min(self.micro_batch_size or len(batch), len(batch))
            if rows == 1:
                raise RunError(
                    "out of memory with one sequence at a time: a smaller model, or a shorter model.context"
                )
            self.micro_batch_size = rows // 2
            if (
                self.process_group.size > 1
            ):  # the others wait for gradients that will not come: start again from the checkpoint
                raise OutOfMemoryError(self.micro_batch_size)
            said = f"out of memory with {rows} sequences at once; now {self.micro_batch_size}, the global batch stays"
            print(said, file=sys.stderr)
            self.zero_grad()
            torch.cuda.empty_cache()
            seed_step(self.config.seed, self.step, self.process_group.rank)

    def _backward_once(self, batch: Batch) -> Tensor:
        loss = torch.zeros((), device=self.device)
        # Sharded parameters are gathered for each micro-batch by all ranks together: all need equally many.
        tokens = None if self.is_sharded else micro_batch_tokens(self.device)
        micro_batches = list(batch.split(self.micro_batch_size, tokens))
        for micro in micro_batches:
            share = self.model.loss(**micro.inputs()).mean(batch.counts)
            with nullcontext() if micro is micro_batches[-1] else self._gradients_stay_here():
                self.manual_backward(
                    share * self.process_group.size
                )  # strategies average gradients over ranks
            loss += share.detach()
        return loss

    def _gradients_stay_here(self) -> Any:
        """Exchange gradients once a step, after the last micro-batch."""
        strategy = self.trainer.strategy
        return (
            strategy.block_backward_sync() if isinstance(strategy, DDPStrategy) else nullcontext()
        )

    def _clipped_norm(self) -> Tensor:
        largest = self.config.optim.grad_clip or torch.inf
        return full_tensor(
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), largest)
        ).detach()

    def _agree(self, loss: Tensor, norm: Tensor) -> float:
        """One exchange a step: the loss over all ranks, the gradient's norm, and whether somebody is asked to stop."""
        asked = float(self.signals.received is not None)
        figures = torch.stack([loss, norm.to(loss.device), torch.tensor(asked, device=loss.device)])
        self.loss, norms, asked = self.process_group.all_reduce(figures).tolist()
        self.norm, self.stop_requested = norms / self.process_group.size, asked > 0
        return self.loss

    def validation_step(self, batch: Batch, _: int) -> None:
        counts = (
            (batch.targets >= 0).sum(),
            0 if batch.labels is None else (batch.labels >= 0).sum(),
        )
        sums = self.model.loss(**batch.inputs())
        for metric, value in zip(self.held_out, (sums.targets, sums.labels, *counts), strict=True):
            metric.update(value)

    def on_validation_epoch_start(self) -> None:
        for metric in self.held_out:
            metric.set_dtype(torch.float64)
            metric.reset()

    def validation_loss(self) -> float:
        """Nats a target, and a label, over the whole validation split of all ranks.

        Raises:
            RunError: it is not finite.
        """
        of_targets, of_labels, targets, labels = (
            float(metric.compute()) for metric in self.held_out
        )
        loss = of_targets / max(1, targets) + of_labels / max(1, labels)
        if not np.isfinite(loss):
            raise RunError(
                f"the validation loss after step {self.step} is {loss}: the newest checkpoint is from before"
            )
        return loss

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def _set_learning_rate(self, optimizers: list[Any]) -> None:
        multiplier = self.schedule.multiplier(self.step, self.config.trainer.max_steps)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * multiplier
        self.learning_rate = optimizers[0].param_groups[0]["lr"]


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout of a step is a function of (seed, step, rank): no generator state has to be saved or restored."""
    state = splitmix64(
        np.array([seed], np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(step * 65536 + rank)
    )
    torch.manual_seed(int(state[0] >> np.uint64(1)))
