"""Loss, tokens a second and the time left: a bar on a terminal or in a notebook, a line now and then elsewhere."""

import sys
import time
from typing import Any

import lightning as L
from tqdm.auto import tqdm

from gptexp.data.progress import is_interactive
from gptexp.training.module import Module
from gptexp.training.recorder import Recorder

PLAIN_SECONDS = 10  # between two lines where there is no terminal


class Progress(L.Callback):
    """Shows what `recorder`, a callback that comes before this one, has just logged."""

    def __init__(self, recorder: Recorder, steps: int) -> None:
        self.recorder, self.steps = recorder, steps
        self.interactive = is_interactive()
        self.bar: Any = None
        self.shown: dict[str, Any] = {}
        self.said_at = 0.0
        self.start_step, self.start_tokens, self.start_seconds = 0, 0, 0.0

    def on_train_start(self, trainer: L.Trainer, module: Module) -> None:
        self.start_step, self.start_tokens, self.start_seconds = (
            module.step,
            module.tokens,
            module.seconds,
        )
        self.said_at = time.monotonic()
        if self.interactive:
            self.bar = tqdm(
                total=self.steps,
                initial=module.step,
                desc="training",
                unit=" steps",
                dynamic_ncols=True,
                mininterval=0.5,
            )

    def on_train_batch_end(self, trainer: L.Trainer, module: Module, *_: Any) -> None:
        if self.bar is not None:
            self.bar.update(module.step - self.bar.n)
        self._show(module)

    def on_validation_end(self, trainer: L.Trainer, module: Module) -> None:
        self._show(module)

    def on_train_end(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    on_exception = on_train_end

    def _show(self, module: Module) -> None:
        row = self.recorder.latest
        if (
            row is self.shown or row.get("step") != module.step
        ):  # nothing has been logged of this step
            return
        if self.bar is not None:
            self.bar.set_postfix_str(self._figures(module, row), refresh="val/loss" in row)
        elif "val/loss" in row or time.monotonic() - self.said_at > PLAIN_SECONDS:
            self.said_at = time.monotonic()
            done = max(1, module.step - self.start_step)
            left = (module.seconds - self.start_seconds) / done * (self.steps - module.step)
            text = (
                f"step {module.step}/{self.steps}: {self._figures(module, row)}, {left:.0f} s left"
            )
            print(text, file=sys.stderr, flush=True)
        else:
            return
        self.shown = row

    def _figures(self, module: Module, row: dict[str, Any]) -> str:
        speed = (module.tokens - self.start_tokens) / max(1e-9, module.seconds - self.start_seconds)
        held_out = f", val loss {row['val/loss']:.3f}" if "val/loss" in row else ""
        loss = "none, skipped" if row["train/loss"] is None else f"{row['train/loss']:.3f}"
        return f"loss {loss}{held_out}, {speed:,.0f} tokens/s"
