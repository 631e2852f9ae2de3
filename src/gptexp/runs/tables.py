"""Text that a run prints: its metrics next to the baseline, its samples, and the table of a sweep."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import SweepFolder

COMPANIONS = (
    "before",
    "low",
    "high",
    "baseline",
)  # SPLIT/low/NAME is shown in the row of SPLIT/NAME
LAST_RANK = (math.inf, math.inf)  # of a job without metrics
SAMPLE_FIELDS = ("input", "reference", "before", "output")  # before training, where it is known


def is_companion(metric: str) -> bool:
    """Return whether SPLIT/low/NAME and the like belong to the metric SPLIT/NAME."""
    parts = metric.split("/")
    return len(parts) > 1 and parts[-2] in COMPANIONS


def metrics_table(metrics: dict[str, float]) -> str:
    """Return a table of each metric: before training, its value, 95 % interval and naive baseline, where known.

    Without metrics it is empty, and has no header.
    """
    if not metrics:
        return ""
    rows: list[tuple[str, ...]] = [("metric", "before", "model", "95 %", "baseline")]
    for name, value in metrics.items():
        if is_companion(name):
            continue
        split, _, leaf = name.rpartition("/")
        before, low, high, baseline = (metrics.get(f"{split}/{kind}/{leaf}") for kind in COMPANIONS)
        interval = "" if low is None or high is None else f"{low:.3g} to {high:.3g}"
        rows.append((name, _format(before), _format(value), interval, _format(baseline)))
    known = [number for number in range(5) if number == 2 or any(row[number] for row in rows[1:])]
    return align_columns([tuple(row[number] for number in known) for row in rows], "<" + ">" * 4)


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def primary_metric_text(result: dict[str, Any]) -> str:
    """Return the task's primary metric next to its baseline, or the run's status if it has none."""
    name, metrics = result["primary_metric"], result["metrics"]
    if name not in metrics:
        return result["status"]
    split, _, leaf = name.rpartition("/")
    baseline = metrics.get(f"{split}/baseline/{leaf}")
    comparison = "" if baseline is None else f" (baseline {baseline:.4g})"
    return f"{name} {metrics[name]:.4g}{comparison}"


def sweep_table(folder: SweepFolder) -> str:
    """Return one line a job, the best first: the overrides that differ, the run's name, and the outcome.

    Jobs whose primary metrics are equal are sorted by their losses.
    """
    jobs = folder.jobs()
    shared = set.intersection(*(set(job.words) for job in jobs))
    rows, before = [], ("", "")
    for job in jobs:
        differing = " ".join(word for word in job.words if word not in shared)
        run = folder.run_folder(job) if job.state == "finished" else None
        if run:
            outcome, rank = _describe_outcome(run.result())
            rows.append((0, rank, (differing, run.name, outcome)))
        else:
            failure = (job.state, job.reason or "")
            is_repeated, before = failure == before and job.reason is not None, failure
            reason = "as above" if is_repeated else failure[1].partition("\n")[0]
            rows.append((1, LAST_RANK, (differing, job.state, reason)))
    rows.sort(key=lambda row: row[:2])
    order = ", the best first" if any(rank < LAST_RANK for _, rank, _ in rows) else ""
    return f"sweep{order}:\n" + align_columns([cells for _, _, cells in rows], "<<<")


def _describe_outcome(result: dict[str, Any]) -> tuple[str, tuple[float, float]]:
    """Return the primary metric of a run, beside it its loss, and its rank: the best run has the least."""
    name, metrics = result["primary_metric"], result["metrics"]
    losses = [key for key in ("val/loss", f"{name.partition('/')[0]}/loss") if key in metrics]
    outcome = primary_metric_text(result)
    if losses and losses[0] != name:
        outcome += f"  {losses[0]} {metrics[losses[0]]:.4g}"
    if not losses and name not in metrics:
        return outcome, LAST_RANK
    loss = metrics[losses[0]] if losses else math.inf
    score = metrics.get(name, loss)
    is_score_of_result = name in metrics and result.get("higher_is_better", False)
    return outcome, (-score if is_score_of_result else score, loss)


def samples_text(samples: list[dict[str, Any]], width: int = 110) -> str:
    """Return the samples as wrapped text; a long field is cut to two lines."""
    lines = []
    for number, sample in enumerate(samples, 1):
        for name in filter(sample.__contains__, SAMPLE_FIELDS):
            text = textwrap.shorten(str(sample[name]), 2 * width, placeholder=" ...") or "(nothing)"
            label = f"{number}. {name}" if name == "input" else f"   {name}"
            lines += textwrap.wrap(
                text, width, initial_indent=f"  {label:<14}", subsequent_indent=" " * 16
            )
        lines.append("")
    return "\n".join(lines)


def result_text(folder: RunFolder) -> str:
    """Return the samples, metrics and speed of a finished run."""
    result = folder.result()
    lines = []
    if samples := folder.samples():
        lines += ["samples:", samples_text(samples)]
    lines += filter(None, [metrics_table(result["metrics"])])
    lines += [f"  {remark}" for remark in result.get("remarks", [])]
    lines.append(
        f"  {result['steps']} steps, {result['tokens']:,} tokens in {result['train_seconds']:.0f} s "
        f"({result['tokens_per_second']:,.0f} tokens/s), {result['parameters']:,} parameters"
    )
    return "\n".join(lines)


def align_columns(rows: Sequence[tuple[str, ...]], alignments: str) -> str:
    """Return the rows as lines of aligned columns; alignments: `<` or `>` for each column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        columns = zip(row, alignments, widths, strict=False)
        lines.append("  ".join(f"{cell:{alignment}{width}}" for cell, alignment, width in columns))
    return "\n".join(f"  {line}".rstrip() for line in lines)
