"""The rungs of a ladder: finished runs that differ in size and length, and the law that their losses follow."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gptexp.config.keys import result_settings
from gptexp.config.schema import Config
from gptexp.errors import UserError
from gptexp.model.cost import count_matrices
from gptexp.planning.workload import Workload, describe_workload, fills_context
from gptexp.runs.run_folder import RunFolder
from gptexp.statistics.scaling_law import Prediction, predict_loss
from gptexp.wording import format_count

AXES = ("flops", "parameters")
METRICS = ("test/loss", "val/loss")  # the first that all runs have is the default
# Settings in which rungs may differ. All others are the same on a ladder, or its losses are no points of one curve.
FREE = ("model.", "optim.", "schedule.", "trainer.", "seed")


@dataclass(frozen=True)
class Size:
    """The size of a run: training operations, parameters of the blocks, and tokens."""

    flops: int
    parameters: int
    tokens: int

    def on(self, axis: str) -> float:
        """Return the size on an axis of AXES."""
        return float(getattr(self, axis))


@dataclass(frozen=True)
class Rung:
    """Runs of one size, which differ in their seed."""

    size: Size
    runs: list[RunFolder] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        return sum(self.losses) / len(self.losses)


@dataclass(frozen=True)
class Ladder:
    """Rungs in the order of their operations, all on the same data."""

    metric: str
    rungs: list[Rung]
    settings: dict[str, Any]  # that all runs share
    train_tokens: int | None  # of the data; None: the runs do not say
    fills_context: bool = True  # whether each sequence has as many tokens as its size says
    assumptions: tuple[str, ...] = ()  # of all sizes

    def predict(self, axis: str, size: Size, without_last: bool = False) -> Prediction:
        """Predict the loss at a size, from all rungs or from all but the largest.

        Raises:
            UserError: there are too few runs or rungs.
        """
        rungs = self.rungs[:-1] if without_last else self.rungs
        sizes = [rung.size.on(axis) for rung in rungs for _ in rung.losses]
        losses = [loss for rung in rungs for loss in rung.losses]
        try:
            return predict_loss(sizes, losses, size.on(axis))
        except ValueError as error:
            raise UserError(f"no scaling law: {error}; add runs of further sizes") from None

    def check(self, config: Config, name: str) -> None:
        """Refuse a config whose loss is not comparable with those of the rungs.

        Raises:
            UserError: it differs in a setting that all rungs share.
        """
        for key, value in comparable_settings(config).items():
            if self.settings.get(key) != value:
                raise UserError(
                    f"{name}: has {key}={value}, the rungs have {self.settings.get(key)}. "
                    f"Rungs differ in model, optim, schedule, trainer and seed alone"
                )


def measure_size(config: Config) -> Size:
    """Return the size of a run with this config.

    Raises:
        UserError: its operations are not counted.
    """
    workload: Workload = describe_workload(config)
    if not workload.is_counted:
        raise UserError(f"task={config.task.kind}: its operations are not counted")
    matrices = count_matrices(workload.model).items()
    return Size(
        flops=workload.step_flops().training * workload.steps,
        parameters=sum(count * rows * columns for (rows, columns), count in matrices),
        tokens=workload.total_tokens,
    )


def read_ladder(runs: Sequence[RunFolder], metric: str | None) -> Ladder:
    """Read finished runs as a ladder; those that are not finished are left out.

    Raises:
        UserError: there are none, they lack the metric, or their data or other settings differ.
    """
    results = {run.name: run.result() for run in runs}
    runs = [run for run in runs if results[run.name].get("status") == "finished"]
    if not runs:
        raise UserError("no run of the ladder has finished")
    metrics = [results[run.name]["metrics"] for run in runs]
    if metric is None:
        metric = next((name for name in METRICS if all(name in values for values in metrics)), None)
    if metric is None or not all(metric in values for values in metrics):
        common = sorted(set.intersection(*map(set, metrics)))
        raise UserError(
            f"--metric {metric or METRICS[0]}: not all runs have it. All have: {', '.join(common)}"
        )
    data = {run.name: run.read_record("data") for run in runs}
    settings = comparable_settings(runs[0].config())
    tokens = data[runs[0].name].get("splits", {}).get("train", {}).get("tokens")
    first = runs[0].config()
    assumptions = describe_workload(first).assumptions
    ladder = Ladder(metric, [], settings, tokens, fills_context(first), assumptions)
    rungs: dict[Size, Rung] = {}
    for run in runs:
        config = run.config()
        ladder.check(config, run.name)
        if data[run.name].get("fingerprint") != data[runs[0].name].get("fingerprint"):
            raise UserError(f"{run.name}: was trained on other data than {runs[0].name}")
        rung = rungs.setdefault(size := measure_size(config), Rung(size))
        rung.runs.append(run)
        rung.losses.append(float(results[run.name]["metrics"][metric]))
    ladder.rungs.extend(sorted(rungs.values(), key=lambda rung: rung.size.flops))
    return ladder


def comparable_settings(config: Config) -> dict[str, Any]:
    """Return the settings that all rungs of a ladder share."""
    settings = {
        key: value for key, value in result_settings(config).items() if not key.startswith(FREE)
    }
    return dict(json.loads(json.dumps(settings, default=str)))


def describe_repetition(ladder: Ladder, size: Size, name: str) -> str:
    """Return a remark on a run that reads its data more than once; "": it does not."""
    if not ladder.train_tokens or not ladder.fills_context or size.tokens <= ladder.train_tokens:
        return ""
    return (
        f"{name} reads {format_count(size.tokens, 'token')} of {ladder.train_tokens:,}: "
        f"data that are read again teach less, and bend the curve"
    )
