"""The callback that records a run: it validates, writes lines of metrics.jsonl, and saves checkpoints."""

import sys
import time
from dataclasses import asdict
from typing import Any

import lightning as L
import numpy as np
import torch

from gptexp.checkpoints.checkpoint import Checkpoint
from gptexp.checkpoints.checkpointer import Checkpointer
from gptexp.checkpoints.optimizer_state import OptimizerState
from gptexp.config.schema import Config
from gptexp.data.batch import Batch
from gptexp.data.loader import DataModule, HeldOutDataset
from gptexp.distributed.signals import explain_stop
from gptexp.errors import Preempted, RunError
from gptexp.runs import timings
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.trackers import Tracker
from gptexp.training.crash import NotFiniteError
from gptexp.training.evaluation import compute_batch_losses
from gptexp.training.module import TrainModule
from gptexp.training.source_losses import weighted_losses
from gptexp.training.step_flags import StepFlags
from gptexp.training.stragglers import StragglerWatch
from gptexp.training.throughput import ThroughputMeter, count_step_sequences, countable_config


class Recorder(L.Callback):
    """Validates, logs and saves after a step, in this order, and stops the run after a signal.

    A step has one line, written after the step's validation and before its checkpoint: a run that is killed in
    between repeats the step, and never misses a line. The last step before an end of any kind has a line, too. User
    callbacks come before this one, so that a checkpoint has their state after the step. A thread writes it while
    training goes on; the next checkpoint, a signal and the end of training wait for the thread.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        checkpointer: Checkpointer,
        fingerprint: dict[str, Any],
        tracker: Tracker,
        data: DataModule,
        held_out: HeldOutDataset | None,
    ) -> None:
        self.config, self.folder, self.tracker = config, folder, tracker
        self.checkpointer, self.fingerprint = checkpointer, fingerprint
        self.data, self.held_out = data, held_out
        self.checkpoint: Checkpoint | None = None  # that the run continues from
        self.optimizers: OptimizerState  # from on_fit_start on
        self.best_val_loss: float | None = None
        self.saved_step: int | None = None
        self.save_time = 0.0  # of the last checkpoint, or of the start
        self.last_row: dict[str, Any] = {}  # of metrics.jsonl
        self.row: dict[str, Any] = {}  # of the last step, with a line or without
        self.logged_step = 0
        self.meter: ThroughputMeter  # from on_train_start on, as is the next one
        self.stragglers: StragglerWatch

    def resume_from(self, checkpoint: Checkpoint, is_same_data: bool) -> None:
        self.checkpoint, self.saved_step = checkpoint, checkpoint.state["step"]
        self.logged_step = checkpoint.state["step"]
        count = self.held_out.count if self.held_out else 0
        # Earlier versions, which did not save the count, validated on all sequences.
        all_sequences = self.held_out.total if self.held_out else 0
        if is_same_data and checkpoint.state.get("val_sequences", all_sequences) == count:
            self.best_val_loss = checkpoint.state["best_val_loss"]
        else:  # losses on other sequences do not compare
            self.checkpointer.forget_best()

    def setup(self, trainer: L.Trainer, module: TrainModule, stage: str) -> None:
        if self.checkpoint:
            states = self.checkpoint.load_callbacks()
            for callback in trainer.callbacks:
                if callback.state_key in states:
                    callback.load_state_dict(states[callback.state_key])

    def on_fit_start(self, trainer: L.Trainer, module: TrainModule) -> None:
        self.optimizers = OptimizerState(module.model, trainer.optimizers)
        if self.checkpoint:
            self.checkpoint.load_optimizers(self.optimizers)

    def on_train_start(self, trainer: L.Trainer, module: TrainModule) -> None:
        module.signals.install()  # Lightning has installed its own handlers
        self.meter = _build_meter(module)
        self.stragglers = StragglerWatch(module.process_group, module.device)
        self.meter.wait_for_batch()
        self.save_time = time.monotonic()
        held_out = self.held_out
        if held_out and held_out.is_sample and module.process_group.is_rank_zero:
            print(
                f"each validation reads {held_out.count:,} of the {held_out.total:,} sequences of the "
                f"validation split, as trainer.val_tokens={self.config.trainer.val_tokens} says",
                file=sys.stderr,
            )

    def on_train_batch_end(
        self, trainer: L.Trainer, module: TrainModule, outputs: Any, batch: Batch, index: int
    ) -> None:
        module.seconds += self.meter.end_step(batch.counts, module.exchange.read())
        config, step = self.config.trainer, module.step
        is_last = step == config.max_steps
        is_logged = is_last or module.any_flags.stop or step % config.log_every == 0
        self.row = _describe_step(module)
        validation: dict[str, float] = {}
        if self.held_out and (step % config.val_every == 0 or is_last):
            with self.meter.measure(timings.VALIDATION):
                validation = self._validate(self.held_out, module)
        if validation or is_logged:
            if module.loss is not None:
                self.row |= _prefixed("train", module.model.report(module.statistics))
            self._log(self.row | validation | self._read_speed())
        if validation:
            _call_on_validation_end(trainer, module, validation)
        is_best = self._update_best(validation)
        is_due = module.any_flags.checkpoint_due or (
            config.checkpoint_every is not None and step % config.checkpoint_every == 0
        )
        if is_best or is_last or is_due or module.any_flags.stop:
            with self.meter.measure(timings.CHECKPOINTS):
                self._save(trainer, module, validation, is_best)
        elif not module.any_flags.is_writing:
            with self.meter.measure(timings.CHECKPOINTS):
                self.checkpointer.finish()
        if module.any_flags.stop:  # all ranks know it, and stop after the same step
            self.checkpointer.finish()
            raise self._explain_stop(module)
        self.meter.wait_for_batch()

    def on_train_end(self, trainer: L.Trainer, module: TrainModule) -> None:
        self._log_last_step(module)
        if self.saved_step != module.step:  # a user callback has ended the training early
            self._save(trainer, module, {}, is_best=False)
        self.checkpointer.close()

    def on_exception(self, trainer: L.Trainer, module: TrainModule, error: BaseException) -> None:
        self._log_last_step(module)
        if not isinstance(error, NotFiniteError):
            self.checkpointer.wait()
            return
        # The step has changed nothing: save the weights that replay starts from.
        if self.saved_step != module.step:
            module.zero_grad()
            self._save(trainer, module, {}, is_best=False)
        self.checkpointer.finish()

    def _explain_stop(self, module: TrainModule) -> BaseException:
        """Return the error that ends the run. All ranks call it, and have the same reason: the gravest one."""
        received = module.process_group.all_gather(module.signals.received)
        reasons = [reason for reason in received if reason is not None]
        errors = [explain_stop(reason, module.step) for reason in reasons]
        return min(errors, key=lambda error: isinstance(error, Preempted))

    def read_flags(self) -> StepFlags:
        """Return what this rank tells the others with the loss of the step that begins."""
        minutes = self.config.trainer.checkpoint_minutes
        is_due = minutes is not None and time.monotonic() - self.save_time >= 60 * minutes
        return StepFlags(
            checkpoint_due=is_due and self.checkpointer.process_group.is_rank_zero,
            is_writing=self.checkpointer.is_writing,
        )

    def _validate(self, held_out: HeldOutDataset, module: TrainModule) -> dict[str, float]:
        """Return the loss and the model's statistics over the validation split.

        Raises:
            RunError: it is not finite.
        """
        # A micro-batch has fitted into memory in training; a larger batch may not.
        held_out = held_out.with_largest_batch(module.micro_batch_size)
        losses = compute_batch_losses(
            module.model, held_out, self.config.trainer.precision, module.process_group
        )
        values = _prefixed("val", weighted_losses(losses, held_out))
        loss = values["val/loss"]
        if not np.isfinite(loss):
            raise RunError(
                f"the validation loss after step {module.step} is {loss}; "
                f"the newest checkpoint is from an earlier step"
            )
        sums, counts = losses.total()
        values |= _prefixed("val", module.model.report(sums.statistics))
        if held_out.is_sample:
            values["val/targets"] = counts.targets  # of which the loss is the mean
        return values

    def _read_speed(self) -> dict[str, Any]:
        """Return the speed of the steps since the last line. All ranks call it."""
        together = self.stragglers.compare(self.meter)
        return self.meter.read() | together

    def _update_best(self, validation: dict[str, float]) -> bool:
        """Return whether the validation loss is the lowest so far, and remember it then."""
        if not validation:
            return False
        loss = validation["val/loss"]
        is_best = self.best_val_loss is None or loss < self.best_val_loss
        if is_best:
            self.best_val_loss = loss
        return is_best

    def _log_last_step(self, module: TrainModule) -> None:
        """Log the last step that is done, unless it has a line."""
        if module.step == self.logged_step:
            return
        # Where a user callback failed after the step, the row is that of an earlier one.
        is_current = self.row.get("step") == module.step
        row = self.row if is_current else _describe_step(module)
        self._log(row | self.meter.read())  # of this rank alone: the others may have failed

    def _log(self, row: dict[str, Any]) -> None:
        self.logged_step = row["step"]
        if self.checkpointer.process_group.is_rank_zero:
            self.folder.append_metrics(row)
            self.tracker.log(row)
        self.last_row = row

    def _save(
        self, trainer: L.Trainer, module: TrainModule, metrics: dict[str, float], is_best: bool
    ) -> None:
        self.saved_step, self.save_time = module.step, time.monotonic()
        state = {
            **module.progress(),
            "order": asdict(self.data.position(module.step)),
            "best_val_loss": self.best_val_loss,
            "val_sequences": self.held_out.count if self.held_out else 0,
            "metrics": metrics,
        }
        callbacks = {callback.state_key: callback.state_dict() for callback in trainer.callbacks}
        self.checkpointer.save(
            module.model,
            self.optimizers,
            state,
            self.fingerprint,
            {key: values for key, values in callbacks.items() if values},
            is_best,
        )


class StepStart(L.Callback):
    """Tells the meter of a recorder that a batch has arrived, before any user callback takes time."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def on_train_batch_start(self, trainer: L.Trainer, module: TrainModule, *_: Any) -> None:
        self.recorder.meter.start_step()
        module.flags = self.recorder.read_flags()
        module.exchange.start_step()


def _build_meter(module: TrainModule) -> ThroughputMeter:
    return ThroughputMeter(
        count_step_sequences(module.config),
        countable_config(module.model),
        module.device,
        module.process_group.size,
    )


def _describe_step(module: TrainModule) -> dict[str, Any]:
    row = {"step": module.step, "tokens": module.tokens, "seconds": round(module.seconds, 3)}
    if module.flops is not None:
        row["flops"] = float(module.flops)  # large models exceed the integers of other languages
    return {**row, "train/loss": module.loss, "train/lr": module.learning_rate}


def _prefixed(prefix: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in metrics.items()}


def _call_on_validation_end(
    trainer: L.Trainer, module: TrainModule, metrics: dict[str, float]
) -> None:
    """Let callbacks see the validation metrics, as after Lightning's own validation loop."""
    trainer.callback_metrics.update({name: torch.tensor(x) for name, x in metrics.items()})
    for callback in trainer.callbacks:
        callback.on_validation_end(trainer, module)
