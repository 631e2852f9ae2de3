"""The LightningModule: one optimizer step is one batch of Lightning, and reads like the algorithm.

Lightning provides devices, strategies, precision and the loop. Steps are counted in `step`, the random numbers of a
step follow from (seed, step, rank), and the loss is divided by the valid targets of the whole global batch.
"""

import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial, reduce
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from gptexp.config.schema import Config
from gptexp.data.batch import Batch
from gptexp.data.permutation import splitmix64
from gptexp.distributed.deferred_init import DeferredWeights
from gptexp.distributed.devices import micro_batch_tokens
from gptexp.distributed.process_group import STEP_TIMEOUT, TIMEOUT, ProcessGroup
from gptexp.distributed.sharding import clip_grad_norm
from gptexp.distributed.signals import StopSignals
from gptexp.distributed.strategies import (
    build_mesh,
    can_hold_full_gradients,
    context_mesh,
    keep_full_gradients,
    shard_model,
)
from gptexp.errors import OutOfMemoryError, RunError
from gptexp.loss import LossCounts
from gptexp.model import Transformer
from gptexp.model.context_parallel import ContextGroup
from gptexp.training.crash import NotFiniteError
from gptexp.training.micro_batch_graphs import MicroBatchGraphs
from gptexp.training.micro_batches import CutBatch, loss_inputs
from gptexp.training.optimizers import build_optimizers
from gptexp.training.out_of_memory import is_out_of_memory
from gptexp.training.schedule import Plan
from gptexp.training.step_flags import StepFlags
from gptexp.training.stragglers import ExchangeTimer
from gptexp.training.throughput import count_step_sequences, count_training_flops, countable_config


class TrainModule(L.LightningModule):
    """A Transformer in training.

    Attributes:
        step: optimizer steps done; tokens: tokens seen; seconds: time spent in training; flops: operations of the model
            for these tokens, None if they are not counted. All survive a restart.
        loss: of the last step, in nats a target over the global batch; None if the step was skipped.
        grad_norm: of the last step, before clipping.
        statistics: of the last step, summed over the global batch (see Transformer.report).
        flags: of this rank; any_flags: those that held on some rank at the end of the last step, the same on all.
    """

    def __init__(
        self,
        model: Transformer,
        config: Config,
        process_group: ProcessGroup,
        signals: StopSignals,
        micro_batch_size: int | None = None,
        deferred: DeferredWeights | None = None,
    ) -> None:
        """Take a model with its weights, or one on the meta device with weights that are deferred."""
        super().__init__()
        self.automatic_optimization = False
        self.model, self.config = model, config
        self.process_group, self.signals = process_group, signals
        self.micro_batch_size = micro_batch_size
        self.deferred = deferred
        self.is_sharded = False
        self.graphs: MicroBatchGraphs | None = None  # None: Python launches all kernels
        self.keeps_full_gradients = False  # between the micro-batches of a step
        self.plan = Plan(config.schedule, config.trainer.max_steps)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.flops: int | None = 0
        self.loss: float | None = None
        self.grad_norm = 0.0
        self.statistics = torch.zeros(0)
        self.exchange: ExchangeTimer  # from on_fit_start on
        self.learning_rate = 0.0
        self.flags, self.any_flags = StepFlags(), StepFlags()

    def progress(self) -> dict[str, Any]:
        """Return the counters of this module that a checkpoint keeps."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "flops": self.flops,
            "schedule": self.plan.state(self.step),
        }

    def load_progress(self, state: dict[str, Any]) -> None:
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self.flops = state.get("flops")  # earlier versions did not count them
        config = self.config
        self.plan = Plan.restore(
            config.schedule, config.trainer.max_steps, self.step, state["schedule"]
        )

    def configure_model(self) -> None:
        # Lightning may call this twice.
        config = self.config.trainer
        if config.is_sharded and not self.is_sharded:
            device = self.trainer.strategy.root_device
            mesh = build_mesh(config, self.process_group, device)
            shard = partial(shard_model, self.model, mesh, config)
            if self.deferred is None:
                shard()
            else:
                home = torch.device("cpu") if config.cpu_offload else device
                self.deferred.materialize(self.model, home, shard)
            self.is_sharded = True
        if self.process_group.context_parallel > 1 and self.model.context_group is None:
            mesh = context_mesh(self.process_group, self.device)
            group = ContextGroup(mesh.get_group(), mesh.get_local_rank(), mesh.size())
            self.model.context_group = group

    def on_fit_start(self) -> None:
        # The groups of a mesh start with ten minutes, and ranks compile unequally long before their first step.
        self.process_group.set_timeout(TIMEOUT)
        self.exchange = ExchangeTimer(self.device, is_active=self.process_group.size > 1)
        if countable_config(self.model) is None:
            self.flops = None
        self.keeps_full_gradients = self.is_sharded and can_hold_full_gradients(
            self.model, self.device, self.process_group
        )

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0:  # the ranks have built and compiled what they need: a step takes seconds
            self.process_group.set_timeout(STEP_TIMEOUT)

    def configure_optimizers(self) -> Any:
        return build_optimizers(self.model, self.config.optim)

    def training_step(self, batch: Batch, _: int) -> None:
        optimizers = self._optimizers()
        self._set_learning_rate(optimizers)
        seed_step(self.config.seed, self.step, self.process_group.token_rank)

        if self.step in self.config.trainer.skip_steps:
            zeros = torch.zeros(1, device=self.device)
            self._all_reduce_metrics(zeros, zeros[0])
            self.loss = None
        else:
            loss_and_statistics = self._backward(batch)
            grad_norm = self._clip_grad_norm()
            total_loss = self._all_reduce_metrics(loss_and_statistics, grad_norm)
            if not np.isfinite([total_loss, self.grad_norm]).all():  # before any weight changes
                raise NotFiniteError(total_loss, self.grad_norm, batch)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            if self.flops is not None:
                sequences = count_step_sequences(self.config)
                self.flops += count_training_flops(self.model.config, sequences, batch.counts)

        self.step += 1
        self.tokens += batch.counts.tokens

    def prepare_batch(self, batch: Batch) -> CutBatch:
        """Cut a batch ahead of its step; a thread of the loader calls it."""
        size = self.micro_batch_size
        return CutBatch.of(batch, size, self._cut(batch))

    def _cut(self, batch: Batch) -> list[dict[str, Any]]:
        """Return the inputs of the micro-batches."""
        if isinstance(batch, CutBatch) and batch.size == self.micro_batch_size:
            return batch.micro_batches
        # All ranks gather sharded parameters together for each micro-batch: all need the same number of them.
        tokens = None if self.is_sharded else micro_batch_tokens(self.device)
        parts = batch.split(self.micro_batch_size, tokens)
        return [loss_inputs(self.model, part, self.device) for part in parts]

    def _backward(self, batch: Batch) -> Tensor:
        """Accumulate the gradients of a batch; with smaller micro-batches if memory is short.

        Returns:
            [1 + n]: this rank's part of the loss, then n statistics.
        """
        while True:
            try:
                return self._accumulate_gradients(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            sequences = min(self.micro_batch_size or len(batch), len(batch))
            if sequences == 1:
                raise RunError(
                    "out of memory with one sequence at a time: "
                    "use a smaller model or a shorter model.context"
                )
            self.micro_batch_size = sequences // 2
            if self.process_group.size > 1 or self.is_sharded:
                # Other ranks wait for gradients that will not come, and FSDP for the end of the pass: the run starts
                # again from the checkpoint.
                raise OutOfMemoryError(self.micro_batch_size)
            print(
                f"out of memory with {sequences} sequences at once; now {self.micro_batch_size}, "
                f"the global batch stays",
                file=sys.stderr,
            )
            self.zero_grad()
            if self.graphs is not None:
                self.graphs.clear()
            torch.cuda.empty_cache()
            seed_step(self.config.seed, self.step, self.process_group.token_rank)

    def _accumulate_gradients(self, batch: Batch) -> Tensor:
        micro_batches = self._cut(batch)
        if self.graphs is not None:
            parts = [self.graphs.run(inputs, batch.counts) for inputs in micro_batches]
            return reduce(torch.add, parts)
        parts = []
        for micro_batch in micro_batches:
            inputs = move_data_to_device(micro_batch, self.device)
            is_last = micro_batch is micro_batches[-1]
            parts.append(self.compute_micro_batch(inputs, batch.counts, is_last=is_last))
        total = reduce(torch.add, parts)
        return total if self.process_group.counts_tokens else torch.zeros_like(total)

    def compute_micro_batch(
        self, inputs: dict[str, Any], counts: LossCounts, *, is_last: bool = True
    ) -> Tensor:
        """Run both passes of a micro-batch; return its part of the loss, then its statistics.

        Args:
            is_last: of the step, so that ranks exchange gradients.
        """
        sums = self.model.loss(**inputs)
        loss = sums.mean(counts)
        if is_last:
            self.exchange.start_exchange()
        with nullcontext() if is_last else self._no_sync():
            # Strategies average gradients over ranks; the loss is a sum over them.
            self.manual_backward(loss * self.process_group.token_size)
        return torch.cat([loss.detach()[None], sums.statistics.detach()])

    def _no_sync(self) -> AbstractContextManager[Any]:
        """Keep ranks from reducing gradients: they do so once a step, after the last micro-batch."""
        strategy = self.trainer.strategy
        if isinstance(strategy, DDPStrategy):
            return strategy.block_backward_sync()
        if self.keeps_full_gradients:
            return keep_full_gradients(self.model)
        return nullcontext()

    def _clip_grad_norm(self) -> Tensor:
        return clip_grad_norm(self.model.parameters(), self.config.optim.grad_clip)

    def _all_reduce_metrics(self, loss_and_statistics: Tensor, grad_norm: Tensor) -> float:
        """Sum loss, statistics and flags over all ranks, in one all_reduce; return the loss."""
        device = loss_and_statistics.device
        flags = self.flags._replace(stop=self.signals.received is not None)
        host_flags = torch.tensor(flags, dtype=torch.float32)
        metrics = torch.cat(
            [
                grad_norm.to(device)[None],
                host_flags.to(device, non_blocking=True),
                loss_and_statistics,
            ]
        )
        first = 1 + len(flags)
        norms, *rest = self.process_group.all_reduce(metrics).tolist()
        self.exchange.end_exchange()
        self.any_flags = StepFlags(*(count > 0 for count in rest[: len(flags)]))
        total_loss = rest[len(flags)]
        self.loss, self.statistics = total_loss, metrics[first + 1 :]
        self.grad_norm = norms / self.process_group.size
        return total_loss

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def _set_learning_rate(self, optimizers: list[Any]) -> None:
        multiplier = self.plan.multiplier(self.step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * multiplier
        self.learning_rate = optimizers[0].param_groups[0]["lr"]


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed the random numbers of a step, such as dropout, so that no generator state has to be saved."""
    state = splitmix64(
        np.array([seed], np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(step * 65536 + rank)
    )
    torch.manual_seed(int(state[0] >> np.uint64(1)))
