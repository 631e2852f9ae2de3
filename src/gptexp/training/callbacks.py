"""What happens around steps: records, checkpoints, and what the terminal shows."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from tqdm.auto import tqdm

from gptexp.config.schema import Config
from gptexp.reporting.record import RunFolder
from gptexp.reporting.tracking import Tracker
from gptexp.training import checkpoint
from gptexp.training.module import Module

PLAIN_SECONDS = 10  # between two lines where there is no terminal


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
        self.last_time = self.last_tokens = 0.0

    def on_train_start(self, trainer: L.Trainer, module: Module) -> None:
        if self.resumed_from is not None:
            checkpoint.load_optimizers(self.resumed_from, module.model, trainer.optimizers)
        self._tick(module)

    def on_train_epoch_start(self, trainer: L.Trainer, module: Module) -> None:  # noqa: ARG002
        self._tick(module)

    def on_train_batch_end(self, trainer: L.Trainer, module: Module, *_: Any) -> None:
        settings, step = self.config.trainer, module.step
        self._tock(module)
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
        self._tick(module)

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
        self.pending = {}

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

    def _tick(self, module: Module) -> None:  # noqa: ARG002
        self.last_time = time.perf_counter()

    def _tock(self, module: Module) -> None:
        module.seconds += time.perf_counter() - self.last_time


class Progress(L.Callback):
    """Loss, tokens a second and the time left: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.interactive = sys.stderr.isatty() or "ipykernel" in sys.modules
        self.bar: Any = None
        self.said_at = 0.0
        self.held_out = ""
        self.start_tokens = self.start_seconds = 0.0

    def on_train_start(self, trainer: L.Trainer, module: Module) -> None:  # noqa: ARG002
        self.start_tokens, self.start_seconds = module.tokens, module.seconds
        self.start_step = module.step
        self.said_at = time.monotonic()
        if self.interactive:
            self.bar = tqdm(
                total=self.config.trainer.max_steps,
                initial=module.step,
                desc="training",
                unit=" steps",
                dynamic_ncols=True,
                mininterval=0.5,
            )

    def on_train_batch_end(self, trainer: L.Trainer, module: Module, *_: Any) -> None:  # noqa: ARG002
        if self.bar is not None:
            self.bar.update(module.step - self.bar.n)
        due = module.step % self.config.trainer.log_every == 0
        if self.bar is not None and due:
            self.bar.set_postfix_str(self._figures(module), refresh=False)
        elif self.bar is None and due and time.monotonic() - self.said_at > PLAIN_SECONDS:
            self._say(module)

    def on_validation_end(self, trainer: L.Trainer, module: Module) -> None:  # noqa: ARG002
        self.held_out = f", val loss {module.validation_loss():.3f}"
        if self.bar is not None:
            self.bar.set_postfix_str(self._figures(module))
        else:
            self._say(module)

    def on_train_end(self, trainer: L.Trainer, module: Module) -> None:  # noqa: ARG002
        if self.bar is not None:
            self.bar.close()

    on_exception = lambda self, trainer, module, _: self.on_train_end(trainer, module)  # noqa: E731

    def _figures(self, module: Module) -> str:
        seconds = max(1e-9, module.seconds - self.start_seconds)
        speed = (module.tokens - self.start_tokens) / seconds
        loss = float(module.train_loss) if module.train_loss is not None else float("nan")
        return f"loss {loss:.3f}{self.held_out}, {speed:,.0f} tokens/s"

    def _say(self, module: Module) -> None:
        self.said_at = time.monotonic()
        done, steps = module.step - self.start_step, self.config.trainer.max_steps
        left = (module.seconds - self.start_seconds) / max(1, done) * (steps - module.step)
        print(
            f"step {module.step}/{steps}: {self._figures(module)}, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
