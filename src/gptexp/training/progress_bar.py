"""Progress of training: a bar in a terminal or notebook, a line every few seconds elsewhere."""

import sys
from contextlib import ExitStack
from typing import Any

import lightning as L

from gptexp.data.progress import is_interactive, tqdm
from gptexp.runs.timings import describe_speed
from gptexp.stages import stage
from gptexp.training.module import TrainModule
from gptexp.training.recorder import Recorder
from gptexp.training.throughput import WARM_UP_STEPS


class ProgressBar(L.Callback):
    """Shows loss, speed and remaining time, from the rows of a recorder that precedes it in the list of callbacks."""

    def __init__(self, recorder: Recorder, steps: int) -> None:
        self.recorder, self.steps = recorder, steps
        self.bar: Any = None
        self.shown_row: dict[str, Any] = {}
        self.start_step = 0
        self.warm: tuple[int, float] | None = None  # step and seconds after the warm-up
        self.stage = ExitStack()

    def on_train_start(self, trainer: L.Trainer, module: TrainModule) -> None:
        self.start_step = module.step
        is_bar = is_interactive()
        self.stage.enter_context(stage(lambda: self._line(module), is_quiet=is_bar))
        if is_bar:
            self.bar = tqdm(
                total=self.steps,
                initial=module.step,
                desc="training",
                unit=" steps",
                dynamic_ncols=True,
                mininterval=0.5,
            )

    def on_train_batch_end(self, trainer: L.Trainer, module: TrainModule, *_: Any) -> None:
        if module.step == self.start_step + WARM_UP_STEPS:
            self.warm = (module.step, module.seconds)
        if self.bar is not None:
            self.bar.update(module.step - self.bar.n)
        row = self.recorder.last_row
        if row is self.shown_row or row.get("step") != module.step:  # this step has no row
            return
        self.shown_row = row
        has_validation = "val/loss" in row
        if self.bar is not None:
            self.bar.set_postfix_str(self._figures(), refresh=has_validation)
        elif has_validation or module.step == self.steps:
            print(self._line(module), file=sys.stderr, flush=True)

    def on_train_end(self, *_: Any) -> None:
        self.stage.close()
        if self.bar is not None:
            self.bar.close()

    on_exception = on_train_end

    def _line(self, module: TrainModule) -> str:
        line = f"step {module.step}/{self.steps}"
        if module.step == self.start_step:
            return f"{line}: computing the first step"
        if figures := self._figures():
            line += f": {figures}"
        if self.warm and module.step > self.warm[0]:
            step, seconds = self.warm
            left = (module.seconds - seconds) / (module.step - step) * (self.steps - module.step)
            line += f", {left:.0f} s left"
        return line

    def _figures(self) -> str:
        """Return the losses and the speed of the last row."""
        row, figures = self.shown_row, []
        if row:
            loss = "none, skipped" if row["train/loss"] is None else f"{row['train/loss']:.3f}"
            figures.append(f"loss {loss}")
        if "val/loss" in row:
            figures.append(f"val loss {row['val/loss']:.3f}")
        return ", ".join([*figures, *describe_speed(row)])
