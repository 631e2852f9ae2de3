"""What stops a run before its weights are harmed, and the record that lets `gptexp.replay` look at it."""

import math
import time
from typing import Any

import torch

from gptexp.data.batch import Batch
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import RunError
from gptexp.runs.run_folder import RunFolder


class NotFiniteError(Exception):
    """The loss or the gradient of a step is not finite; no weight has changed."""

    def __init__(self, loss: float, norm: float, batch: Batch) -> None:
        super().__init__(f"loss {loss}, gradient norm {norm}")
        self.loss, self.norm, self.batch = loss, norm, batch


def is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def record_crash(
    folder: RunFolder, module: Any, process_group: ProcessGroup, error: NotFiniteError
) -> RunError:
    """Write crash.json (first rank; all ranks call it) and give back what to tell the user."""
    batch = error.batch
    examples = batch.examples.tolist() if batch.examples is not None else []
    ranks = process_group.all_gather(examples)
    if process_group.is_rank_zero:
        folder.write_record(
            "crash",
            step=module.step,
            loss=str(error.loss),  # JSON has no NaN
            gradient_norm=str(error.norm),
            examples=ranks,
            ranks=process_group.size,
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
