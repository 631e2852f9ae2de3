"""Pruning: which running job has no prospect of becoming the best, by validation losses at equal steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from gptexp.runs.run_folder import RunFolder

FIRST_RUNG = 1 / 3  # of the steps: with a decaying rate, earlier losses say little
LAST_RUNG = 0.9  # of the steps: from here on, a job may as well end
MIN_PEERS = 3  # other jobs with a loss at the same step
SLACK = 1.5  # a job may gain this much more than any that has finished
# Settings that have to be equal where losses at equal steps are compared.
COMPARABLE = (
    "task",
    "data",
    "tokenizer",
    "schedule",
    "trainer.max_steps",
    "trainer.global_batch_size",
    "trainer.val_tokens",
)


@dataclass(frozen=True)
class Curve:
    """The validation losses of a job."""

    losses: dict[int, float]  # by step
    max_steps: int
    is_finished: bool
    comparable: str  # equal for jobs whose losses at equal steps compare


def read_curve(run: RunFolder, is_finished: bool) -> Curve | None:
    """Read the validation losses of a run; None before it has a config."""
    if not (run.path / "config.yaml").is_file():
        return None
    config = run.config_values()
    values = [_select(config, key) for key in COMPARABLE]
    losses = {row["step"]: row["val/loss"] for row in run.metrics() if "val/loss" in row}
    return Curve(losses, config["trainer"]["max_steps"], is_finished, repr(values))


def explain_hopeless(curve: Curve, others: Sequence[Curve], is_pruned: bool = False) -> str | None:
    """Return why a job cannot become the best; None: it can, or it is too early to tell, or too late to gain by it.

    A job is hopeless between a third and nine tenths of its steps, if its loss is above the median of the jobs at the
    same step, and would stay above the best final loss even if it fell from here on by 1.5 times as much as that of any
    good job. Good are the better half of those that have finished: one that starts at a loss of 20 and ends at 3 falls
    far, and shows nothing. The median does not count for a job that is pruned already: worse jobs make it no better.
    """
    step = max(curve.losses, default=0)
    if not FIRST_RUNG * curve.max_steps <= step < LAST_RUNG * curve.max_steps:
        return None
    peers = [x for x in others if x.comparable == curve.comparable and step in x.losses]
    finished = sorted((peer for peer in peers if peer.is_finished), key=_lowest)
    if len(peers) < MIN_PEERS or not finished:
        return None
    loss = curve.losses[step]
    if not is_pruned and loss <= median([loss, *(peer.losses[step] for peer in peers)]):
        return None
    best, good = _lowest(finished[0]), finished[: (len(finished) + 1) // 2]
    gain = max(peer.losses[step] - _lowest(peer, step) for peer in good)
    prospect = loss - SLACK * gain
    if prospect <= best:
        return None
    return (
        f"val/loss {loss:.4g} at step {step} of {curve.max_steps}: even {SLACK:g} times the largest gain of a "
        f"good job from there on, {gain:.3g}, leaves {prospect:.4g}, and the best is {best:.4g}"
    )


def _lowest(curve: Curve, first_step: int = 0) -> float:
    """Return the lowest loss from a step on."""
    return min(loss for step, loss in curve.losses.items() if step >= first_step)


def _select(config: dict[str, Any], key: str) -> Any:
    for name in key.split("."):
        config = config[name]
    return config
