"""Facts of a rank that all ranks learn with the loss of a step, so that they act on them after the same step."""

from typing import NamedTuple


class StepFlags(NamedTuple):
    """Those of one rank, or which of them hold on some rank."""

    stop: bool = False  # a signal arrived
    checkpoint_due: bool = False  # by the clock of rank zero
    is_writing: bool = False  # a checkpoint is still being written
