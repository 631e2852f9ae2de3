"""Steps that are not finite: the error that stops a run before an update, and the record for `gptexp.replay`."""

import math
import time
from typing import Any

from gptexp.data.batch import Batch
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import RunError
from gptexp.runs.run_folder import RunFolder


class NotFiniteError(Exception):
    """The loss or the gradient of a step is not finite; no weight has changed."""

    def __init__(self, loss: float, grad_norm: float, batch: Batch) -> None:
        super().__init__(f"loss {loss}, gradient norm {grad_norm}")
        self.loss, self.grad_norm, self.batch = loss, grad_norm, batch


def record_crash(
    folder: RunFolder, module: Any, process_group: ProcessGroup, error: NotFiniteError
) -> RunError:
    """Write crash.json and return the error that ends the run. All ranks call it; rank zero writes."""
    batch = error.batch
    examples = batch.examples.tolist() if batch.examples is not None else []
    examples_by_rank = process_group.all_gather(examples)
    if process_group.is_rank_zero:
        folder.write_record(
            "crash",
            step=module.step,
            loss=str(error.loss),  # JSON has no NaN
            gradient_norm=str(error.grad_norm),
            examples=examples_by_rank,
            ranks=process_group.size,
            strategy=module.config.trainer.strategy,
            precision=str(module.trainer.precision),
            learning_rate=module.learning_rate,
            last_metrics=folder.metrics()[-3:],
            time=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )
    part = "gradient" if math.isfinite(error.loss) else "loss"
    return RunError(
        f"step {module.step}: the {part} is not finite ({error}). No weight has changed, and the weights before this "
        f"step are saved. Look at the step: python -m gptexp.replay {folder.path}. "
        f"Continue from there: the same command with --skip or --lr-factor 0.5"
    )
