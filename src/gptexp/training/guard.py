"""What stops a run before its weights are harmed, and the record that lets `gptexp.replay` look at it."""

import math
import time
from typing import Any

import torch

from gptexp.config.errors import RunError
from gptexp.data.batch import Batch
from gptexp.reporting.record import RunFolder
from gptexp.training.world import World


class NotFiniteError(Exception):
    """The loss or the gradient of a step is not finite; no weight has changed."""

    def __init__(self, loss: float, norm: float, batch: Batch) -> None:
        super().__init__(f"loss {loss}, gradient norm {norm}")
        self.loss, self.norm, self.batch = loss, norm, batch


class OutOfMemoryError(RunError):
    """One rank of several had too little memory; all have to start again with smaller micro-batches."""

    code = 76

    def __init__(self, micro_batch: int) -> None:
        super().__init__(f"out of memory: the same command goes on, with micro-batches of {micro_batch}")
        self.micro_batch = micro_batch


def is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def record_crash(folder: RunFolder, module: Any, world: World, error: NotFiniteError) -> RunError:
    """Write crash.json (first rank; all ranks call it) and give back what to tell the user."""
    batch = error.batch
    examples = batch.examples.tolist() if batch.examples is not None else []
    ranks = world.gathered(examples)
    if world.is_first:
        folder.write(
            "crash",
            step=module.step,
            loss=str(error.loss),  # JSON has no NaN
            gradient_norm=str(error.norm),
            examples=ranks,
            ranks=world.size,
            strategy=module.config.trainer.strategy,
            precision=str(module.trainer.precision),
            learning_rate=module.learning_rate,
            last_metrics=folder.metrics()[-3:],
            time=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )
    what = "loss" if not math.isfinite(error.loss) else "gradient"
    return RunError(
        f"step {module.step}: the {what} is not finite ({error}). No weight was changed, and those before this step "
        f"are saved. python -m gptexp.replay {folder.path} looks at this step; with --skip, or "
        f"--lr-factor 0.5, it goes on from there"
    )
