"""The scores of two subjects on the same held-out examples or batches, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gptexp.comparing.comparability import OF_LOSS
from gptexp.comparing.run_records import RunRecords, split_name, split_of

LINEAR_IN_LOSS = ("loss", "bits_per_byte")
MIN_BATCHES = 20  # of a loss; fewer do not show how much the loss depends on the text


@dataclass(frozen=True)
class PairedScores:
    """Scores of N units: examples, or batches whose means weigh as much as they have predicted tokens."""

    first: NDArray[np.float64]  # [runs, N]
    second: NDArray[np.float64]  # [runs, N]
    groups: list[str]  # of each unit; near-duplicates have the same
    unit: Literal["example", "batch"]


def read_scores(
    first: Sequence[RunRecords], second: Sequence[RunRecords], metric: str
) -> PairedScores | None:
    """Return the scores of a metric on the units that all runs have; None where there are none.

    A run without the metric has failed, and has a row of NaN.
    """
    leaf = split_name(metric)[1]
    if leaf in OF_LOSS:
        return _read_losses(first, second, metric) if leaf in LINEAR_IN_LOSS else None
    split, is_measured = split_of(metric), _find_measured(first, second, metric)
    runs = [
        run.scored_rows(split, "example", leaf)
        for run in (*first, *second)
        if metric in run.metrics
    ]
    ids = [id for id in runs[0] if all(id in rows for rows in runs)]
    if not ids:
        return None
    table = np.full((len(is_measured), len(ids)), np.nan)
    table[is_measured] = [[rows[id]["scores"][leaf] for id in ids] for rows in runs]
    groups = [str(runs[0][id].get("group", id)) for id in ids]
    return PairedScores(table[: len(first)], table[len(first) :], groups, "example")


def _find_measured(
    first: Sequence[RunRecords], second: Sequence[RunRecords], metric: str
) -> NDArray[np.bool_]:
    return np.array([metric in run.metrics for run in (*first, *second)])


def _read_losses(
    first: Sequence[RunRecords], second: Sequence[RunRecords], metric: str
) -> PairedScores | None:
    """Return the losses of the batches; None where the runs have other batches, as with another context, or few."""
    is_measured = _find_measured(first, second, metric)
    runs = [run for run in (*first, *second) if metric in run.metrics]
    rows = [run.scored_rows(split_of(metric), "batch", "loss") for run in runs]
    targets = [{id: row.get("targets") for id, row in batches.items()} for batches in rows]
    if len(rows[0]) < MIN_BATCHES or any(other != targets[0] for other in targets[1:]):
        return None
    ids = list(rows[0])
    weights = np.array([float(targets[0][id] or 0) for id in ids])
    if not weights.sum():
        return None
    losses = np.array([[batches[id]["scores"]["loss"] for id in ids] for batches in rows])
    # The plain mean of these values is the metric of the run: the loss, or the bits per byte that follow from it.
    weighted = losses * weights / weights.mean()
    scale = np.array([run.metrics[metric] for run in runs]) / weighted.mean(axis=1)
    table = np.full((len(is_measured), len(ids)), np.nan)
    table[is_measured] = weighted * scale[:, None]
    return PairedScores(table[: len(first)], table[len(first) :], ids, "batch")
