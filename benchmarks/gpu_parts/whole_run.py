"""The figures of a run that trains to its end."""

import statistics
import time
from pathlib import Path

from measuring import Part

from gptexp.runs import timings

WARM_UP_STEPS = 5


def report_run(part: Part, words: list[str], outputs: Path) -> None:
    """Run `gptexp run WORDS` to its end, and report its losses, its speed and the shares of its time."""
    started = time.monotonic()
    run = part.finish_run(*words, outputs=outputs)
    part.report("from the command to its end", time.monotonic() - started, "s")
    result, rows = run.result(), run.metrics()
    part.report("training", result["train_seconds"], "s")
    part.report("tokens", result["tokens"])
    losses = [row["val/loss"] for row in rows if "val/loss" in row]
    part.report("lowest validation loss", min(losses))
    fast = [row for row in rows if timings.STEP_MS in row]
    step_ms = statistics.median(row[timings.STEP_MS] for row in fast)
    part.report("step", step_ms, "ms")
    slowest = max(row[timings.STEP_MS] for row in fast if row["step"] > WARM_UP_STEPS)
    part.report("slowest line after the first steps", slowest, "ms a step")
    part.report("steps alone", result["steps"] * step_ms / 1000, "s")
    part.report(
        "speed", statistics.median(row[timings.TOKENS_PER_SECOND] for row in fast), "tokens/s"
    )
    part.report("peak memory", rows[-1][timings.PEAK_MEMORY], "GiB")
    part.report_compilation(rows[-1])
    if timings.COMPILED_GRAPHS in rows[-1]:
        first = next(row for row in rows if "val/loss" in row)
        late = rows[-1][timings.COMPILED_GRAPHS] - first.get(timings.COMPILED_GRAPHS, 0)
        part.report("graphs compiled after the first validation", late)
    part.report_lost_time(rows)
