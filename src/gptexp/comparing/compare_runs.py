"""Compare subjects: settings, data, code, metrics with verdicts, speed, and the examples that are won and lost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gptexp.comparing.comparability import explain_incomparable, higher_is_better
from gptexp.comparing.example_differences import ExampleComparison, compare_outputs
from gptexp.comparing.facts import FactRow, SpeedRow, fact_rows, speed_rows
from gptexp.comparing.run_records import RunRecords, common_metrics, split_name
from gptexp.comparing.settings_difference import SettingRow, differing_settings
from gptexp.comparing.subjects import Subject
from gptexp.comparing.verdicts import judge_metric
from gptexp.runs.environment import reproduce_command
from gptexp.statistics.summary import LEVEL, Summary, summarize
from gptexp.statistics.verdict import Verdict

MEASURES = ("targets", "encoded_fraction")  # figures about the data: no model is better by them


@dataclass(frozen=True)
class MetricRow:
    """A metric of each subject, and the verdict on each of them against the first."""

    name: str
    is_primary: bool
    higher_is_better: bool | None  # None: nothing says so, and there are no verdicts
    summaries: tuple[
        Summary | None, ...
    ]  # over the runs of each subject; None: none of them has it
    verdicts: tuple[Verdict | None, ...]  # None for the first subject, and where there is a reason
    reasons: tuple[str, ...]  # why there is no verdict; "" where there is one


@dataclass(frozen=True)
class Comparison:
    """The first subject is the one that the others are compared with."""

    subjects: list[Subject]
    settings: list[SettingRow]  # that differ
    facts: list[FactRow]
    incomparable: str | None  # why the primary metric does not compare
    metrics: list[MetricRow]
    speed: list[SpeedRow]
    examples: list[ExampleComparison | None]  # of each other subject; None: no scores in both
    remarks: list[str] = field(default_factory=list)  # about runs that are missing or not finished

    def primary(self) -> MetricRow | None:
        """Return the row of the primary metric of the first subject."""
        return next((row for row in self.metrics if row.is_primary), None)

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        values = asdict(self)
        values["subjects"] = [
            {"label": subject.label, "runs": [str(run.path) for run in subject.runs]}
            for subject in self.subjects
        ]
        return values


def compare(subjects: Sequence[Subject], margin: float = 0.0) -> Comparison:
    """Compare the first subject with each of the others.

    Args:
        margin: smallest difference of interest of the primary metric.

    Raises:
        UserError: a record of a run is damaged.
    """
    runs = [[RunRecords(run) for run in subject.runs] for subject in subjects]
    metrics = _metric_rows(runs, margin)
    primary = next((row for row in metrics if row.is_primary), None)
    incomparable = _explain_primary(runs, primary)
    return Comparison(
        list(subjects),
        _setting_rows(runs),
        fact_rows(runs),
        incomparable,
        metrics,
        speed_rows(runs),
        _compare_examples(runs, metrics),
        _remarks(runs),
    )


def _setting_rows(subjects: Sequence[Sequence[RunRecords]]) -> list[SettingRow]:
    """Return the settings that differ; the seed of a subject with several runs is the list of their seeds."""
    configs = [
        {**runs[0].config, "seed": [run.seed for run in runs] if len(runs) > 1 else runs[0].seed}
        for runs in subjects
    ]
    return differing_settings(configs)


def _metric_rows(subjects: Sequence[Sequence[RunRecords]], margin: float) -> list[MetricRow]:
    runs = [run for each in subjects for run in each]
    level = LEVEL / max(
        1, len(subjects) - 1
    )  # of each verdict, since one of several is wrong more often
    primary = next((run.primary_metric for run in runs if run.primary_metric), "")
    rows = []
    for name in common_metrics(runs):
        direction = higher_is_better(runs, name)
        if split_name(name)[1] in MEASURES:
            direction = None
        values = [[run.metrics[name] for run in each if name in run.metrics] for each in subjects]
        verdicts: list[Verdict | None] = [None]
        reasons = [""]
        for other in subjects[1:]:
            outcome: Verdict | str = "no direction is better"
            if direction is not None:
                limit = margin if name == primary else 0.0
                outcome = judge_metric(subjects[0], other, name, direction, limit, level)
            verdicts.append(None if isinstance(outcome, str) else outcome)
            reasons.append(outcome if isinstance(outcome, str) else "")
        rows.append(
            MetricRow(
                name,
                name == primary,
                direction,
                tuple(summarize(each) if each else None for each in values),
                tuple(verdicts),
                tuple(reasons),
            )
        )
    return sorted(rows, key=lambda row: not row.is_primary)


def _explain_primary(
    subjects: Sequence[Sequence[RunRecords]], primary: MetricRow | None
) -> str | None:
    """Return why the primary metric of the first two subjects that differ in their data does not compare."""
    if primary is None:
        return None
    measured = [run for runs in subjects for run in runs if primary.name in run.metrics]
    for run in measured[1:]:
        if reason := explain_incomparable(measured[0], run, primary.name):
            return f"{measured[0].name} and {run.name}: {reason}"
    return None


def _compare_examples(
    subjects: Sequence[Sequence[RunRecords]], metrics: Sequence[MetricRow]
) -> list[ExampleComparison | None]:
    """Compare by the first metric that has scores of examples, the primary one before the others."""
    for row in metrics:
        if row.higher_is_better is None:
            continue
        compared = [
            compare_outputs(subjects[0], other, row.name, row.higher_is_better)
            for other in subjects[1:]
        ]
        if any(compared):
            return compared
    return [None] * (len(subjects) - 1)


def _remarks(subjects: Sequence[Sequence[RunRecords]]) -> list[str]:
    remarks, without_scores = [], []
    for run in (run for runs in subjects for run in runs):
        status = run.result.get("status", "not started")
        if status != "finished":
            reason = str(run.result.get("error") or "").split("\n")[0]
            text = f"{status}: {reason}" if reason else status
            words = [str(word) for word in run.environment.get("command", [])]
            advice = f"; to continue it, type {reproduce_command(words)}" if words else ""
            if run.folder.is_locked():
                text, advice = "a process trains it", ""
            remarks.append(f"{run.name} is not finished ({text}): it has no metrics{advice}")
        elif run.metrics and not run.score_rows:
            without_scores.append(run.name)
    if without_scores:
        remarks.append(
            f"without scores of single examples, which earlier versions did not keep, there is no test over examples: "
            f"{', '.join(without_scores)}"
        )
    return remarks
