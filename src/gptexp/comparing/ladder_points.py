"""The points of a ladder: the loss of each run of a sweep over sizes against the operations that it took."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gptexp.comparing.run_records import RunRecords
from gptexp.comparing.sweep_results import SweepResults
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import SweepFolder
from gptexp.statistics.scaling_law import PARAMETERS, Prediction, predict_loss

LOSSES = ("test/loss", "val/loss")  # the first that all runs have, as in `gptexp scaling`
LEAST_SPAN = 4.0  # largest over smallest number of operations; less is a comparison at one size
FIXED = ("data.", "task.")  # settings in which the rungs of a ladder do not differ


@dataclass(frozen=True)
class LadderPoint:
    label: str
    run: str
    flops: float
    loss: float


@dataclass(frozen=True)
class KeptPrediction:
    """A prediction that `gptexp scaling` has written before its run was trained, and the outcome if there is one."""

    date: str
    run: str
    flops: float
    loss: float
    low: float
    high: float
    measured: float | None


@dataclass(frozen=True)
class LadderPoints:
    metric: str
    points: list[LadderPoint]  # in the order of their operations
    predictions: list[KeptPrediction]

    def predict(
        self, flops: float, points: Sequence[LadderPoint] | None = None
    ) -> Prediction | None:
        """Predict the loss at a number of operations from the points; None: they are too few for an interval."""
        points = self.points if points is None else points
        try:
            return predict_loss(
                [each.flops for each in points], [each.loss for each in points], flops
            )
        except ValueError:
            return None

    def check(self) -> Prediction | None:
        """Predict the largest rung from the others; None: the others are too few."""
        largest = self.points[-1].flops
        return self.predict(largest, [each for each in self.points if each.flops < largest])


def read_points(folder: SweepFolder, results: SweepResults) -> LadderPoints | None:
    """Return the points of a sweep that is a ladder; None: its configs are no models of different sizes.

    Each config of a ladder is another size, trained on other numbers of tokens, with all else equal.
    """
    rows = [
        (row, [run for job in row.jobs if (run := results.runs.get(job.number)) and run.metrics])
        for row in results.rows
    ]
    rows = [(row, runs) for row, runs in rows if runs]
    runs = [run for _, each in rows for run in each]
    metric = next((name for name in LOSSES if all(name in run.metrics for run in runs)), None)
    sizes = {run.result.get("parameters") for run in runs}
    if metric is None or len(rows) < PARAMETERS or len(sizes) != len(rows) or not _agree(runs):
        return None
    points = []
    for row, each in rows:
        flops = [value for run in each if (value := _flops(run)) is not None]
        if len(flops) < len(each):
            return None
        mean = sum(flops) / len(flops)  # seeds of a config are one size
        points += [LadderPoint(row.label, run.name, mean, run.metrics[metric]) for run in each]
    points.sort(key=lambda point: point.flops)
    if not all(math.isfinite(point.loss) and point.loss > 0 for point in points):
        return None
    if points[-1].flops < LEAST_SPAN * points[0].flops:
        return None
    return LadderPoints(metric, points, _read_predictions(folder, metric))


def _agree(runs: Sequence[RunRecords]) -> bool:
    """Return whether the runs have the same data and task."""
    if len({run.data.get("fingerprint") for run in runs}) > 1:
        return False
    fixed = [
        {key: value for key, value in run.settings.items() if key.startswith(FIXED)} for run in runs
    ]
    return all(settings == fixed[0] for settings in fixed)


def _flops(run: RunRecords) -> float | None:
    """Return the training operations of a run; None: they are not counted."""
    values = [row["flops"] for row in run.metric_rows[-1:] if "flops" in row]
    return float(values[0]) if values and values[0] and values[0] > 0 else None


def _read_predictions(folder: SweepFolder, metric: str) -> list[KeptPrediction]:
    """Return the predictions of a metric that `gptexp scaling` keeps in the folder of a sweep."""
    file = folder.path / "predictions.jsonl"
    if not file.is_file():
        return []
    predictions = []
    for line in file.read_text("utf8", "replace").splitlines():
        try:
            entry = json.loads(line)
            law = entry["laws"]["flops"]
            numbers = [
                float(entry["size"]["flops"]),
                *(float(law[key]) for key in ("loss", "low", "high")),
            ]
            flops, loss, low, high = numbers
            is_same = entry["metric"] == metric and all(x > 0 and math.isfinite(x) for x in numbers)
            date, run = str(entry["date"]), str(entry["run"])
        except (ValueError, TypeError, KeyError):
            continue  # the line was cut short
        if is_same:
            measured = _measured(folder, run, metric)
            predictions.append(KeptPrediction(date, run, flops, loss, low, high, measured))
    return predictions


def _measured(folder: SweepFolder, name: str, metric: str) -> float | None:
    path = folder.path.parent / name
    result: dict[str, Any] = RunFolder(path).result() if path.is_dir() else {}
    return result.get("metrics", {}).get(metric) if result.get("status") == "finished" else None
