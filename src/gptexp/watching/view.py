"""Draw the state of runs and sweeps as text of a terminal."""

import math
import time
from collections.abc import Sequence
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gptexp.characters import reveal_invisible
from gptexp.runs.timings import describe_speed
from gptexp.watching.folder_state import FolderState, SweepProgress
from gptexp.watching.run_progress import RunProgress

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-:=+*#"
STYLES = {
    "running": "green",
    "failed": "red",
    "killed": "red",
    "damaged": "red",
    "stopped": "yellow",
}
CURVE_WIDTH = 12
WIDE = 120  # columns, that have room for the speed and the primary metric
MIN_NAME, MAX_NAME = 12, 30
OTHER_LINES = 3  # header, number of runs that are not shown, and the cursor
SAMPLE_CHARACTERS = 400


def draw(
    state: FolderState, width: int, height: int | None = None, is_unicode: bool = True
) -> RenderableType:
    """Return the view of all runs and sweeps.

    Args:
        width, height: of the terminal; height None: all runs are shown.
        is_unicode: whether the terminal can show block characters.
    """
    runs = state.sorted_runs()
    sweeps = [_sweep_line(sweep, state) for sweep in state.sweeps.values()]
    details = _details(runs[0]) if runs else []
    room = len(runs)
    if height is not None:
        room = max(1, height - len(sweeps) - len(details) - OTHER_LINES)
    parts: list[RenderableType] = [*sweeps]
    if runs:
        parts.append(_table(state, runs[:room], width, is_unicode))
    else:
        parts.append(Text(f"no runs in {state.outputs}/ yet"))
    if len(runs) > room:
        parts.append(Text(f"and {len(runs) - room:,} more", style="dim"))
    return Group(*parts, *details)


def _table(state: FolderState, runs: Sequence[RunProgress], width: int, is_unicode: bool) -> Table:
    """Return one row a run. The name gets the room that the other columns leave, and is cut in its middle."""
    is_wide = width >= WIDE
    header = ["state", "step", "loss", "train", "val", *(["tokens/s"] if is_wide else []), "left"]
    header += ["result"] if is_wide else []
    rows = [_cells(state, run, is_wide, is_unicode) for run in runs]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    room = max(MIN_NAME, width - sum(widths) - len(widths) - 1)
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True)
    for name, size in zip(header, widths, strict=True):
        is_number = name in ("train", "val", "tokens/s", "left")
        table.add_column(name, no_wrap=True, width=size, justify="right" if is_number else "left")
    for run, (run_state, *cells) in zip(runs, rows, strict=True):
        name = shorten_middle(reveal_invisible(run.name), room)
        table.add_row(name, Text(run_state, style=STYLES.get(run_state, "")), *cells)
    return table


def _cells(state: FolderState, run: RunProgress, is_wide: bool, is_unicode: bool) -> list[str]:
    speed = run.tokens_per_second()
    return [
        reveal_invisible(run.state),
        _steps(run),
        sparkline(run.losses, CURVE_WIDTH, BLOCKS if is_unicode else ASCII_BLOCKS),
        _loss(run.losses[-1] if run.losses else None),
        _loss(run.val_loss),
        *([f"{speed:,.0f}" if speed else ""] if is_wide else []),
        _left(run, state.evaluation_seconds(run)),
        *([reveal_invisible(_result(run))] if is_wide else []),
    ]


def shorten_middle(text: str, length: int) -> str:
    """Cut a text in its middle: names of runs end in what tells them apart."""
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[-end:]}"


def _steps(run: RunProgress) -> str:
    if run.state == "running" and run.step == 0:
        return "preparing"
    if not run.max_steps:
        return str(run.step)
    if run.state == "running" and run.step >= run.max_steps:
        return "evaluating"
    share = "" if run.step >= run.max_steps else f" {run.step / run.max_steps:.0%}"
    return f"{run.step}/{run.max_steps}{share}"


def _result(run: RunProgress) -> str:
    """Return the primary metric of a finished run."""
    name = str(run.result.get("primary_metric", ""))
    value = run.result.get("metrics", {}).get(name)
    return f"{name} {value:.4g}" if value is not None else ""


def _left(run: RunProgress, evaluation: float | None) -> str:
    """Return the time left; a + behind it says that the final evaluation comes on top."""
    seconds = run.seconds_left(evaluation)
    if seconds is None:
        return ""
    return format_duration(seconds) + ("" if evaluation is not None else "+")


def format_duration(seconds: float) -> str:
    """Return a duration in at most six characters, such as 45s, 3m20s, 2h05m or 3d04h."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if not minutes:
        return f"{seconds:.0f}s"
    if not hours:
        return f"{minutes}m{int(seconds % 60):02}s"
    if not days:
        return f"{hours}h{minutes % 60:02}m"
    return f"{days}d{hours % 24:02}h"


def sparkline(values: Sequence[float], width: int, blocks: str = BLOCKS) -> str:
    """Return a curve of characters: the mean of each of `width` stretches, between the lowest and the highest."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    count = min(width, len(finite))
    edges = [len(finite) * number // count for number in range(count + 1)]
    means = [sum(finite[start:end]) / (end - start) for start, end in pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    top = len(blocks) - 1
    return "".join(blocks[round(top * (mean - low) / span) if span else 0] for mean in means)


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.4g}"


def _sweep_line(sweep: SweepProgress, state: FolderState) -> Text:
    has_ended_early = sweep.state in ("killed", "stopped")
    line = Text.assemble(
        (reveal_invisible(sweep.folder.name), "bold"),
        (f" ({sweep.state})", STYLES[sweep.state]) if has_ended_early else "",
        f": {reveal_invisible(sweep.summary())}",
        "; its command continues it" if has_ended_early else "",
    )
    left = state.sweep_seconds_left(sweep)
    if left is not None:
        line.append(f", about {format_duration(left)} left")
    reasons = [job for job in sweep.jobs if job.state in ("failed", "pruned") and job.reason]
    if reasons:
        last = reasons[-1]
        line.append(
            f"; job {last.number} {last.state}: {reveal_invisible(_first_line(last.reason or ''))}"
        )
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _details(run: RunProgress) -> list[Text]:
    """Return the error or the first sample of a run."""
    lines = [Text("")]
    if run.error and run.state in ("failed", "stopped", "damaged"):
        lines.append(
            Text(f"{reveal_invisible(run.name)}: {reveal_invisible(_first_line(run.error))}")
        )
    elif sample := run.sample():
        lines.append(Text(f"{reveal_invisible(run.name)}, its first sample:"))
        for name in ("input", "reference", "output"):
            if name in sample:
                text = " ".join(reveal_invisible(str(sample[name])[:SAMPLE_CHARACTERS]).split())
                lines.append(Text(f"  {name:<10}{text}"))
    elif run.state == "killed":
        lines.append(
            Text(
                f"{reveal_invisible(run.name)}: no process trains it; the same command continues it"
            )
        )
    elif run.state == "running":
        parts = describe_speed(run.recent[-1]) if run.recent else []
        if run.modified:
            parts.append(f"last line {format_duration(max(0.0, time.time() - run.modified))} ago")
        lines.append(
            Text(
                f"{shorten_middle(reveal_invisible(run.name), MAX_NAME)}: {', '.join(parts) or 'at work'}"
            )
        )
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0]
