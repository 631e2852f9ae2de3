"""The results of a sweep, at any moment: its configs, the best first, with verdicts; its jobs with their reasons."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.comparing.comparability import explain_incomparable, higher_is_better
from gptexp.comparing.run_records import RunRecords, common_metrics
from gptexp.comparing.verdicts import judge_metric
from gptexp.runs.sweep_folder import JobEntry, SweepFolder
from gptexp.statistics.configs import compare_configs
from gptexp.statistics.summary import LEVEL, Summary, summarize
from gptexp.statistics.verdict import Verdict
from gptexp.wording import format_count

LOSSES = ("val/loss", "test/loss")  # the first that is there stands beside the primary metric


@dataclass(frozen=True)
class SweepRow:
    """A config of a sweep, over its seeds."""

    overrides: tuple[str, ...]  # in which it differs from the other configs, without the seed
    jobs: list[JobEntry]
    values: dict[str, list[float]]  # of the jobs that are finished, by metric
    metrics: dict[str, Summary]
    is_best: bool = False
    verdict: Verdict | None = None  # against the best config
    reason: str = ""  # why there is no verdict
    own_metric: str = ""  # primary metric of its jobs; "" before one has finished

    @property
    def failed(self) -> int:
        """Number of its failed jobs."""
        return sum(job.state == "failed" for job in self.jobs)

    @property
    def label(self) -> str:
        return " ".join(self.overrides) or "all jobs"


@dataclass(frozen=True)
class SweepResults:
    name: str
    primary_metric: str  # "" before a job has finished, and where the jobs have different ones
    higher_is_better: bool | None  # None: nothing says so, and no config is the best
    rows: list[SweepRow]  # the best first; configs without a finished job last
    jobs: list[JobEntry]
    runs: dict[int, RunRecords] = field(default_factory=dict)  # of the jobs that have a run folder
    notes: list[str] = field(default_factory=list)  # sentences about all verdicts

    def counts(self) -> dict[str, int]:
        """Return the number of jobs in each state."""
        return dict(Counter(job.state for job in self.jobs))

    def best(self) -> SweepRow | None:
        return next((row for row in self.rows if row.is_best), None)

    def metric_names(self) -> list[str]:
        """Return the metrics of all runs, the primary one first."""
        names = common_metrics([*self.runs.values()])
        return sorted(names, key=lambda name: name != self.primary_metric)

    def loss_name(self) -> str | None:
        """Return the loss that stands beside the primary metric in a table."""
        names = self.metric_names()
        return next((x for x in LOSSES if x in names and x != self.primary_metric), None)

    def as_json(self) -> dict[str, Any]:
        """Return the results as plain values."""
        values = asdict(replace(self, runs={}))
        values["runs"] = {number: str(run.folder.path) for number, run in self.runs.items()}
        return values


def sweep_results(folder: SweepFolder, margin: float | None = None) -> SweepResults:
    """Read the jobs of a sweep and their runs, and judge each config against the best one.

    Args:
        margin: smallest difference of interest of the primary metric; None: that of the sweep.

    Raises:
        UserError: a record of the sweep or of a run is damaged.
    """
    settings, jobs = folder.settings(), folder.jobs()
    paths = {job.number: folder.run_folder(job) for job in jobs}
    runs = {
        number: RunRecords(path)
        for number, path in paths.items()
        if path is not None and path.has_config()
    }
    measured = [run for run in runs.values() if run.metrics]
    primary = _primary_metric(settings, measured)
    rows = []
    for overrides, entries in folder.configs().items():
        of_config = [runs[job.number] for job in entries if job.number in runs]
        values = {
            name: [run.metrics[name] for run in of_config if name in run.metrics]
            for name in common_metrics(of_config)
        }
        summaries = {name: summarize(each) for name, each in values.items()}
        own = next((run.primary_metric for run in of_config if run.metrics), "")
        rows.append(SweepRow(overrides, entries, values, summaries, own_metric=own))
    results = SweepResults(
        folder.name, primary, higher_is_better(measured, primary), rows, jobs, runs
    )
    if own_metrics := _differing_metrics(rows):
        note = f"the jobs have different primary metrics, {own_metrics}: nothing sorts them"
        return replace(results, primary_metric="", notes=[note])
    has_looked = settings.get("seeds_for") == "undecided"
    looks = max(1, len(settings.get("seeds") or []) - 1) if has_looked else 1
    if margin is None:
        margin = _read_margin(settings, primary)
    return _with_verdicts(results, margin, looks) if primary else results


def _read_margin(settings: dict[str, Any], metric: str) -> float:
    """Return hydra.sweeper.margin where the metric is the objective that it is about; else 0."""
    is_objective = settings.get("objective") in (metric, "primary_metric")
    return float(settings.get("margin") or 0.0) if is_objective else 0.0


def _differing_metrics(rows: Sequence[SweepRow]) -> str:
    """Return the names of the primary metrics of the configs; "" where all have the same."""
    names = dict.fromkeys(row.own_metric for row in rows if row.own_metric)
    return ", ".join(names) if len(names) > 1 else ""


def _primary_metric(settings: dict[str, Any], runs: Sequence[RunRecords]) -> str:
    """Return the metric that the jobs are sorted by: the one of sweep.json, or else of the runs; "" if unknown."""
    names = [settings.get("primary_metric") or "", *(run.primary_metric for run in runs)]
    known = [name for name in names if any(name in run.metrics for run in runs)]
    losses = [name for name in LOSSES if any(name in run.metrics for run in runs)]
    return next(iter([*known, *losses]), "")


def _with_verdicts(results: SweepResults, margin: float, looks: int) -> SweepResults:
    """Return the results with the best config first, and a verdict on each other config against it.

    Of configs with equal metrics the one with the lower loss comes first. All pairs share the probability of a wrong
    word, so that this choice costs nothing.
    """
    primary, direction = results.primary_metric, results.higher_is_better
    if direction is None:
        note = (
            f"nothing says whether a higher or a lower {primary} is better: no config is the best"
        )
        return replace(results, notes=[note])
    sign, loss = -1 if direction else 1, results.loss_name() or ""
    rows = sorted(
        results.rows,
        key=lambda row: (
            sign * _mean(row.metrics.get(primary), sign * math.inf),
            _mean(row.metrics.get(loss), math.inf),
        ),
    )
    if reason := _explain_incomparable(results):
        rows = [replace(row, reason=f"not comparable: {reason}") for row in rows]
        return replace(results, rows=rows, notes=[f"no verdicts: {reason}"])
    table = _value_table(results, rows)
    outcome = compare_configs(
        table,
        higher_is_better=direction,
        margin=margin,
        looks=looks,
        failed=[row.failed for row in rows],
    )
    has_seeds = int(np.isfinite(table).sum(axis=1).max(initial=0)) > 1
    judged = []
    for number, row in enumerate(rows):
        verdict, reason = outcome.verdicts.get(number), ""
        if not has_seeds and number != outcome.reference and primary in row.values:
            verdict, reason = _judge_models(
                results, rows, outcome.reference, number, direction, margin
            )
        if primary not in row.values:
            reason = "no job of it has finished"
        judged.append(
            replace(row, is_best=number == outcome.reference, verdict=verdict, reason=reason)
        )
    judged.sort(key=lambda row: not row.is_best)
    return replace(results, rows=judged, notes=_notes(results, judged, has_seeds))


def _mean(summary: Summary | None, missing: float) -> float:
    return missing if summary is None or summary.mean is None else summary.mean


def _explain_incomparable(results: SweepResults) -> str | None:
    """Return why the primary metric of the jobs does not compare; None where it does."""
    runs = [run for run in results.runs.values() if results.primary_metric in run.metrics]
    for run in runs[1:]:
        if reason := explain_incomparable(runs[0], run, results.primary_metric):
            return f"{runs[0].name} and {run.name}: {reason}"
    return None


def _value_table(results: SweepResults, rows: Sequence[SweepRow]) -> NDArray[np.float64]:
    """Return the primary metric [configs, seeds]; NaN: no job, or not finished, or failed."""
    seeds = {
        job.number: str(results.runs[job.number].seed)
        for row in rows
        for job in row.jobs
        if job.number in results.runs
    }
    columns = {seed: column for column, seed in enumerate(dict.fromkeys(seeds.values()))}
    table = np.full((len(rows), max(1, len(columns))), math.nan)
    for number, row in enumerate(rows):
        for job in row.jobs:
            if job.number in results.runs:
                value = results.runs[job.number].metrics.get(results.primary_metric, math.nan)
                table[number, columns[seeds[job.number]]] = value
    return table


def _judge_models(
    results: SweepResults,
    rows: Sequence[SweepRow],
    best: int | None,
    number: int,
    higher_is_better: bool,
    margin: float,
) -> tuple[Verdict | None, str]:
    """Return the verdict over examples on the one run of a config, or why there is none.

    The best config is chosen by the same values, so that all pairs share the probability of a wrong word.
    """
    if best is None:
        return None, ""
    count = sum(results.primary_metric in row.values for row in rows)
    sides = [
        [results.runs[job.number] for job in rows[index].jobs if job.number in results.runs]
        for index in (best, number)
    ]
    outcome = judge_metric(
        sides[0],
        sides[1],
        results.primary_metric,
        higher_is_better,
        margin,
        LEVEL / max(1, count * (count - 1) // 2),
    )
    return (None, outcome) if isinstance(outcome, str) else (outcome, "")


def _notes(results: SweepResults, rows: Sequence[SweepRow], has_seeds: bool) -> list[str]:
    best = next((row for row in rows if row.is_best), None)
    count = sum(results.primary_metric in row.values for row in rows)
    if best is None or count < 2:
        return []
    notes = [
        f"{best.label} is the best of {format_count(count, 'config')}: it is chosen by these values, so luck "
        f"flatters its own. A run with a seed that the sweep has not seen confirms it"
    ]
    failing = [row.label for row in rows if row.metrics and row.failed > best.failed]
    if failing:
        notes.append(
            f"more seeds failed than of the best config, so it is not called better: {', '.join(failing)}"
        )
    if not has_seeds:
        notes.append(
            "one seed each: the verdicts compare these models on the examples that both answer, and do not "
            "know the noise between seeds. seeds=3 measures it"
        )
    return notes
