"""Progress of training: a bar in a terminal or notebook, a line every few seconds elsewhere."""

import sys
import time
from typing import Any

import lightning as L

from gptexp.data.progress import is_interactive, tqdm
from gptexp.training.module import TrainModule
from gptexp.training.recorder import Recorder

LINE_SECONDS = 10  # between two lines


class ProgressBar(L.Callback):
    """Shows loss, speed and remaining time, from the rows of a recorder that precedes it in the list of callbacks."""

    def __init__(self, recorder: Recorder, steps: int) -> None:
        self.recorder, self.steps = recorder, steps
        self.bar: Any = None
        self.shown_row: dict[str, Any] = {}
        self.line_time = 0.0
        self.start_step, self.start_tokens, self.start_seconds = 0, 0, 0.0

    def on_train_start(self, trainer: L.Trainer, module: TrainModule) -> None:
        self.start_step, self.start_tokens = module.step, module.tokens
        self.start_seconds = module.seconds
        self.line_time = time.monotonic()
        if is_interactive():
            self.bar = tqdm(
                total=self.steps,
                initial=module.step,
                desc="training",
                unit=" steps",
                dynamic_ncols=True,
                mininterval=0.5,
            )

    def on_train_batch_end(self, trainer: L.Trainer, module: TrainModule, *_: Any) -> None:
        if self.bar is not None:
            self.bar.update(module.step - self.bar.n)
        row = self.recorder.last_row
        if row is self.shown_row or row.get("step") != module.step:  # this step has no row
            return
        has_validation = "val/loss" in row
        if self.bar is not None:
            self.bar.set_postfix_str(self._figures(module, row), refresh=has_validation)
        elif has_validation or time.monotonic() - self.line_time > LINE_SECONDS:
            self.line_time = time.monotonic()
            seconds_per_step = (module.seconds - self.start_seconds) / (
                module.step - self.start_step
            )
            left = seconds_per_step * (self.steps - module.step)
            print(
                f"step {module.step}/{self.steps}: {self._figures(module, row)}, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
        else:
            return
        self.shown_row = row

    def on_train_end(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    on_exception = on_train_end

    def _figures(self, module: TrainModule, row: dict[str, Any]) -> str:
        speed = (module.tokens - self.start_tokens) / max(1e-9, module.seconds - self.start_seconds)
        loss = "none, skipped" if row["train/loss"] is None else f"{row['train/loss']:.3f}"
        validation = f", val loss {row['val/loss']:.3f}" if "val/loss" in row else ""
        return f"loss {loss}{validation}, {speed:,.0f} tokens/s"
