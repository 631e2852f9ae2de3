"""What is kept of a run while it trains: lines of metrics.jsonl, checkpoints, and the record of a crash."""

import time
from pathlib import Path
from typing import Any

import lightning as L

from gptexp.checkpoints import checkpoint
from gptexp.config.schema import Config
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import Preempted
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.trackers import Tracker
from gptexp.training.crash import NotFiniteError
from gptexp.training.module import Module


class Recorder(L.Callback):
    """Logs every `log_every` steps and at each validation, saves checkpoints, and ends training.

    A step's line is written once, after the validation that belongs to it; a checkpoint of that step is saved after
    the line. So a run that is killed between them repeats the step, and never misses a line.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        tracker: Tracker,
        process_group: ProcessGroup,
        fingerprint_of: dict[str, Any],
    ) -> None:
        self.config, self.folder, self.tracker, self.process_group = (
            config,
            folder,
            tracker,
            process_group,
        )
        self.fingerprint_of = fingerprint_of
        self.resumed_from: Path | None = None
        self.best: float | None = None
        self.saved: int | None = None  # step of the last checkpoint that was written
        self.pending: dict[str, Any] = {}
        self.latest: dict[str, Any] = {}  # the last line that was written
        self.last_time = 0.0

    def on_train_start(self, trainer: L.Trainer, module: Module) -> None:
        if self.resumed_from is not None:
            checkpoint.load_optimizers(self.resumed_from, module.model, trainer.optimizers)
        module.signals.install()  # Lightning has put its own handlers in place
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
                "train/loss": module.loss,
                "train/lr": module.learning_rate,
            }
        if not validates:
            self._write()
            if (
                module.stop_requested
                or step % settings.checkpoint_every == 0
                or step == settings.max_steps
            ):
                self._save(trainer, module)
            self._stop_where_asked(module)
        trainer.should_stop = step >= settings.max_steps
        self.last_time = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, module: Module) -> None:
        loss = module.validation_loss()
        self.pending["val/loss"] = loss
        self._write()
        is_best = self.best is None or loss < self.best
        if is_best:
            self.best = loss
        settings, step = self.config.trainer, module.step
        if (
            is_best
            or module.stop_requested
            or step % settings.checkpoint_every == 0
            or step == settings.max_steps
        ):
            self._save(trainer, module, is_best, {"val/loss": loss})
        self._stop_where_asked(module)

    def on_exception(self, trainer: L.Trainer, module: Module, exception: BaseException) -> None:
        if isinstance(
            exception, NotFiniteError
        ):  # nothing has changed: keep what replay starts from
            module.zero_grad()
            if self.saved != module.step:
                self._save(trainer, module)

    def _stop_where_asked(self, module: Module) -> None:
        """All ranks stop at the same step. An exception, since Lightning's own way out would validate first."""
        if module.stop_requested:
            name = module.signals.received.name if module.signals.received else "a signal"
            raise Preempted(f"{name} after step {module.step}, which is saved")

    def _validates(self, trainer: L.Trainer, module: Module) -> bool:
        settings = self.config.trainer
        due = module.step % settings.val_every == 0 or module.step == settings.max_steps
        return due and bool(trainer.limit_val_batches)

    def _write(self) -> None:
        if self.pending and self.process_group.is_rank_zero:
            self.folder.append_metrics(self.pending)
            self.tracker.log(self.pending)
        self.latest, self.pending = self.pending or self.latest, {}

    def _save(
        self,
        trainer: L.Trainer,
        module: Module,
        is_best: bool = False,
        metrics: dict[str, float] | None = None,
    ) -> None:
        settings = self.config.trainer
        self.saved = module.step
        state = {
            "step": module.step,
            "tokens": module.tokens,
            "seconds": module.seconds,
            "best": self.best,
            "metrics": metrics or {},
        }
        checkpoint.save(
            self.folder.checkpoints,
            module.model,
            trainer.optimizers,
            state,
            self.process_group,
            fingerprint_of=self.fingerprint_of,
            is_best=is_best,
            keep=settings.keep_checkpoints,
            sharded=settings.sharded_checkpoints,
        )
