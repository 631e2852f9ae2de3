"""What is kept of a run while it trains: lines of metrics.jsonl, and checkpoints."""

from __future__ import annotations

import time
from typing import Any

import lightning as L

from gptexp.config.schema import Config
from gptexp.reporting.record import RunFolder
from gptexp.reporting.tracking import Tracker
from gptexp.training import checkpoint
from gptexp.training.module import Module


class Recorder(L.Callback):
    """Logs every `log_every` steps and at each validation, and saves checkpoints.

    A step's line is written once, after the validation that belongs to it; a checkpoint of that step is saved after
    the line. So a run that is killed between them repeats the step, and never misses a line.
    """

    def __init__(self, config: Config, folder: RunFolder, tracker: Tracker) -> None:
        self.config, self.folder, self.tracker = config, folder, tracker
        self.resumed_from: Any = None
        self.best: float | None = None
        self.pending: dict[str, Any] = {}
        self.latest: dict[str, Any] = {}  # the last line that was written
        self.last_time = 0.0

    def on_train_start(self, trainer: L.Trainer, module: Module) -> None:
        if self.resumed_from is not None:
            checkpoint.load_optimizers(self.resumed_from, module.model, trainer.optimizers)
        self.last_time = time.perf_counter()

    def on_train_epoch_start(self, *_: Any) -> None:
        self.last_time = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, module: Module, *_: Any) -> None:
        settings, step = self.config.trainer, module.step
        module.seconds += time.perf_counter() - self.last_time
        validates = self._validates(trainer, module)
        if step % settings.log_every == 0 or validates:
            self.pending = {
                "step": step,
                "tokens": module.tokens,
                "seconds": round(module.seconds, 3),
                "train/loss": module.global_train_loss(),
                "train/lr": module.learning_rate,
            }
        if not validates:
            self._write(trainer)
            if step % settings.checkpoint_every == 0 or step == settings.max_steps:
                self._save(trainer, module, is_best=False)
        self.last_time = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, module: Module) -> None:
        loss = module.validation_loss()
        self.pending["val/loss"] = loss
        self._write(trainer)
        is_best = self.best is None or loss < self.best
        if is_best:
            self.best = loss
        settings = self.config.trainer
        if is_best or module.step % settings.checkpoint_every == 0 or module.step == settings.max_steps:
            self._save(trainer, module, is_best, {"val/loss": loss})

    def _validates(self, trainer: L.Trainer, module: Module) -> bool:
        settings = self.config.trainer
        due = module.step % settings.val_every == 0 or module.step == settings.max_steps
        return due and bool(trainer.limit_val_batches)

    def _write(self, trainer: L.Trainer) -> None:
        if self.pending and trainer.is_global_zero:
            self.folder.log(self.pending)
            self.tracker.log(self.pending)
        self.latest, self.pending = self.pending or self.latest, {}

    def _save(self, trainer: L.Trainer, module: Module, is_best: bool, metrics: dict[str, float] | None = None) -> None:
        state = {
            "step": module.step,
            "tokens": module.tokens,
            "seconds": module.seconds,
            "best": self.best,
            "metrics": metrics or {},
        }
        checkpoint.save(
            self.folder.checkpoints, module.model, trainer.optimizers, state, is_best, trainer.is_global_zero
        )
