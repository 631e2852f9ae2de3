"""Comparisons and results of sweeps as comma-separated values."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from gptexp.comparing.compare_runs import Comparison
from gptexp.comparing.sweep_results import SweepResults
from gptexp.statistics.summary import Summary
from gptexp.statistics.verdict import Verdict

SUMMARY = ("n", "mean", "sd", "low", "high")
VERDICT = ("word", "difference", "low", "high")


def comparison_csv(comparison: Comparison) -> str:
    """Return a line for each metric of each subject: its summary over seeds, and its verdict against the first."""
    header = ["subject", "runs", "metric", *SUMMARY, "verdict"]
    header += [f"difference_{name}" for name in ("mean", "low", "high")] + ["no_verdict_because"]
    lines = []
    for row in comparison.metrics:
        for number, subject in enumerate(comparison.subjects):
            lines.append(
                [
                    subject.label,
                    " ".join(run.name for run in subject.runs),
                    row.name,
                    *_summary(row.summaries[number]),
                    *_verdict(row.verdicts[number]),
                    row.reasons[number],
                ]
            )
    return _csv(header, lines)


def sweep_csv(results: SweepResults) -> str:
    """Return a line for each job: its settings, state and metrics, and the verdict of its config against the best."""
    keys = list(
        dict.fromkeys(_key(word) for job in results.jobs for word in job.words if "=" in word)
    )
    shared = set.intersection(*(set(job.words) for job in results.jobs)) if results.jobs else set()
    keys = [key for key in keys if not any(_key(word) == key for word in shared)]
    metrics = results.metric_names()
    header = ["number", "state", "run", *keys, *metrics, "steps", "train_seconds"]
    header += ["verdict", "difference", "difference_low", "difference_high", "reason"]
    verdicts = {
        job.number: ["best", "", "", ""] if row.is_best else _verdict(row.verdict)
        for row in results.rows
        for job in row.jobs
    }
    lines = []
    for job in results.jobs:
        settings = dict(word.split("=", 1) for word in job.words if "=" in word)
        run = results.runs.get(job.number)
        measured = run.metrics if run else {}
        record = run.result if run else {}
        lines.append(
            [
                job.number,
                job.state,
                job.run,
                *(settings.get(key) for key in keys),
                *(measured.get(name) for name in metrics),
                record.get("steps"),
                record.get("train_seconds"),
                *verdicts[job.number],
                job.reason,
            ]
        )
    return _csv(header, lines)


def _summary(summary: Summary | None) -> list[Any]:
    return [getattr(summary, name, None) for name in SUMMARY]


def _verdict(verdict: Verdict | None) -> list[Any]:
    return [getattr(verdict, name, None) for name in VERDICT]


def _key(word: str) -> str:
    return word.split("=", 1)[0]


def _csv(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return out.getvalue()
