"""What a run prints: its metrics next to the baseline, and its samples."""

import textwrap
from collections.abc import Sequence
from typing import Any

from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_jobs import Job

BESIDE = ("low", "high", "baseline")  # SPLIT/low/NAME stands beside SPLIT/NAME


def metrics_table(metrics: dict[str, float]) -> str:
    """Rows of name, value, its interval and the naive baseline's value, as far as they are there."""
    rows = [("metric", "model", "95 %", "baseline")]
    for name, value in metrics.items():
        split, _, leaf = name.rpartition("/")
        if not split.endswith(BESIDE):
            low, high, baseline = (metrics.get(f"{split}/{beside}/{leaf}") for beside in BESIDE)
            between = "" if low is None or high is None else f"{low:.3g} to {high:.3g}"
            rows.append(
                (name, f"{value:.4g}", between, "" if baseline is None else f"{baseline:.4g}")
            )
    if not any(between for _, _, between, _ in rows[1:]):
        rows = [(name, value, "", baseline) for name, value, _, baseline in rows]
    return _aligned(rows, "<>>>")


def headline(result: dict[str, Any]) -> str:
    """The task's main metric next to the baseline's."""
    name = result["headline"]
    if name not in result["metrics"]:
        return result["status"]
    split, _, leaf = name.rpartition("/")
    baseline = result["metrics"][f"{split}/baseline/{leaf}"]
    return f"{name} {result['metrics'][name]:.4g} (baseline {baseline:.4g})"


def sweep_table(jobs: list[Job]) -> str:
    """A line a job: the overrides that set it apart, its folder, and its headline metric or what went wrong."""
    shared = set.intersection(*(set(job.overrides) for job in jobs))
    rows = []
    for job in jobs:
        own = " ".join(word for word in job.overrides if word not in shared)
        rows.append((own, job.folder or "failed", job.said.splitlines()[0]))
    return "sweep:\n" + _aligned(rows, "<<<")


def _aligned(rows: Sequence[tuple[str, ...]], sides: str) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    lines = [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)
        )
        for row in rows
    ]
    return "\n".join(f"  {line}".rstrip() for line in lines)


def sample_lines(samples: list[dict[str, Any]], width: int = 110) -> str:
    shown = []
    for number, sample in enumerate(samples, 1):
        for name in ("input", "reference", "output"):
            text = textwrap.shorten(str(sample[name]), 2 * width, placeholder=" ...") or "(nothing)"
            label = f"{number}. {name}" if name == "input" else f"   {name}"
            shown += textwrap.wrap(
                text, width, initial_indent=f"  {label:<14}", subsequent_indent=" " * 16
            )
        shown.append("")
    return "\n".join(shown)


def result_text(folder: RunFolder) -> str:
    """The result of a finished run as people read it."""
    result: dict[str, Any] = folder.result()
    lines = []
    if samples := folder.samples():
        lines += ["samples:", sample_lines(samples)]
    lines += [metrics_table(result["metrics"])]
    lines += [f"  {line}" for line in result.get("remarks", [])]
    lines += [
        f"  {result['steps']} steps, {result['tokens']:,} tokens in {result['train_seconds']:.0f} s "
        f"({result['tokens_per_second']:,.0f} tokens/s), {result['parameters']:,} parameters"
    ]
    return "\n".join(lines)
