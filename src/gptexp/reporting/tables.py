"""What a run prints: its metrics next to the baseline, and its samples."""

from __future__ import annotations

import textwrap
from typing import Any

from gptexp.reporting.record import RunFolder


def metrics_table(metrics: dict[str, float]) -> str:
    """Rows of name, value and, where there is one, the naive baseline's value."""
    rows = [("metric", "model", "baseline")]
    for name, value in metrics.items():
        if "/baseline/" not in name:
            split, _, leaf = name.rpartition("/")
            baseline = metrics.get(f"{split}/baseline/{leaf}")
            rows.append((name, f"{value:.4g}", "" if baseline is None else f"{baseline:.4g}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"  {a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows)


def sample_lines(samples: list[dict[str, str]], width: int = 110) -> str:
    shown = []
    for number, sample in enumerate(samples, 1):
        for name in ("input", "reference", "output"):
            text = textwrap.shorten(sample[name], 2 * width, placeholder=" ...") or "(nothing)"
            label = f"{number}. {name}" if name == "input" else f"   {name}"
            shown += textwrap.wrap(text, width, initial_indent=f"  {label:<14}", subsequent_indent=" " * 16)
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
