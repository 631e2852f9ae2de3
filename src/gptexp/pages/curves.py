"""The curves of runs as the JSON that charts.js draws: thinned, rounded, and with every axis that the runs know."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from gptexp.pages.markup import Html, render, tag
from gptexp.runs import timings
from gptexp.runs.run_folder import RunFolder
from gptexp.wording import format_count

AXES = ("step", "tokens", "flops", "seconds")  # columns of metrics.jsonl that increase
NUM_COLORS = 8  # the last one is grey, for all labels that have no colour of their own
MAX_POINTS = 1000  # of a curve of the main chart, over all runs
MAX_POINTS_OF_SMALL = 400  # of a curve of the other charts, over all runs
MIN_POINTS = 60
MAX_RUNS = 32  # runs whose curves or samples a page of several runs has
LEFT_OUT = {"val/targets", timings.SLOWEST_RANK, timings.COMPILE_SECONDS, timings.COMPILED_GRAPHS}
LOST_TIME = "lost time"


@dataclass
class Chart:
    """A chart: where its curves come from and how it is drawn.

    Args:
        columns: entries of metrics.jsonl, and what each is called where the chart has several.
        unit: "%" shows a share as percent.
    """

    name: str
    title: str
    columns: dict[str, str]
    unit: str = ""
    starts_at_zero: bool = True
    is_large: bool = False
    series: list[dict[str, Any]] = field(default_factory=list)


LOSS = Chart(
    "loss",
    "Loss",
    {"train/loss": "training", "val/loss": "validation"},
    starts_at_zero=False,
    is_large=True,
)
KNOWN = {
    "train/lr": ("Learning rate", ""),
    timings.TOKENS_PER_SECOND: ("Throughput", "tokens/s"),
    timings.STEP_MS: ("Time of a step", "ms"),
    timings.MFU: ("MFU", "%"),
    timings.TFLOPS: ("Compute of a device", "TFLOP/s"),
    timings.PEAK_MEMORY: ("Peak memory", "GiB"),
    timings.SLOWEST_RATIO: ("Slowest rank, relative to the median", ""),
}


@dataclass
class CurveRun:
    """A run whose curves are drawn. Runs with one label, such as the seeds of a config, share a colour and a switch."""

    label: str
    folder: RunFolder

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return self.folder.metrics()


@dataclass(frozen=True)
class Curve:
    """A column of one run: the numbers of its rows, and the values, None where one is not finite."""

    rows: list[int]
    values: list[float | None]

    def thin(self, most: int) -> "Curve":
        """Return about `most` points: of each bucket of rows the least and the largest value, and both ends.

        A mean would hide spikes. A value that is not finite is kept, too: the curve has a gap there.
        """
        count = len(self.rows)
        if count <= most:
            return self
        kept = {0, count - 1}
        buckets = max(1, most // 2)
        for bucket in range(buckets):
            members = range(bucket * count // buckets, (bucket + 1) * count // buckets)
            numbers = [index for index in members if self.values[index] is not None]
            kept.update(index for index in members if self.values[index] is None)
            if numbers:
                kept.add(min(numbers, key=lambda index: self.values[index] or 0.0))
                kept.add(max(numbers, key=lambda index: self.values[index] or 0.0))
        order = sorted(kept)
        return Curve([self.rows[i] for i in order], [self.values[i] for i in order])


def charts_of(rows: Iterable[dict[str, Any]]) -> list[Chart]:
    """Return the charts for the columns that occur in rows of metrics.jsonl, the loss first."""
    columns = dict.fromkeys(name for row in rows for name in row)
    columns = dict.fromkeys(name for name in columns if name not in {*AXES, *LEFT_OUT})
    charts = [LOSS] if set(LOSS.columns) & set(columns) else []
    others: dict[str, Chart] = {}
    for name in columns:
        if name in LOSS.columns:
            continue
        if name in timings.SHARES:
            chart = others.setdefault(LOST_TIME, Chart("lost-time", "Time lost", {}, "%"))
            chart.columns[name] = timings.SHARES[name]
        elif name in KNOWN:
            title, unit = KNOWN[name]
            is_rate = name == "train/lr"
            others[name] = Chart(name, title, {name: ""}, unit, starts_at_zero=is_rate)
        else:  # statistics of the model or of a callback: train/NAME and val/NAME in one chart
            split, _, leaf = name.rpartition("/")
            label = {"train": "training", "val": "validation"}.get(split, split)
            chart = others.setdefault(leaf, Chart(leaf, leaf, {}, starts_at_zero=False))
            chart.columns[name] = label
    order = [*KNOWN, LOST_TIME]
    names = sorted(others, key=lambda name: order.index(name) if name in order else len(order))
    if timings.MFU in others:
        names = [name for name in names if name != timings.TFLOPS]
    return charts + [others[name] for name in names]


def charts_json(runs: Sequence[CurveRun], loss_only: bool = False) -> dict[str, Any]:
    """Return runs and their charts as JSON values."""
    labels = list(dict.fromkeys(run.label for run in runs))
    charts = charts_of(row for run in runs for row in run.rows)
    if loss_only:
        charts = [chart for chart in charts if chart.name == LOSS.name]
    values: dict[str, Any] = {"runs": [], "charts": {}}
    series: dict[str, list[dict[str, Any]]] = {chart.name: [] for chart in charts}
    for number, run in enumerate(runs):
        used: set[int] = set()
        curves: list[tuple[dict[str, Any], Curve]] = []
        for chart in charts:
            for column, (name, detail) in _names(chart, run.label, len(runs) > 1).items():
                curve = _read_curve(run.rows, column).thin(_budget(chart, len(runs)))
                if not curve.rows or (column in timings.SHARES and not _is_noticeable(curve)):
                    continue
                color = list(chart.columns).index(column)
                if len(runs) > 1:
                    color = labels.index(run.label)
                entry = {
                    "run": number,
                    "label": name,
                    "detail": detail,
                    "color": min(color, NUM_COLORS - 1) + 1,
                    "style": _style(chart, column),
                }
                series[chart.name].append(entry)
                curves.append((entry, curve))
                used.update(curve.rows)
        place = {row: index for index, row in enumerate(sorted(used))}
        for entry, curve in curves:
            entry["y"] = [_round(value) for value in curve.values]
            at = [place[row] for row in curve.rows]
            entry["at"] = at if len(at) < len(place) else None
        axes = {name: [run.rows[row].get(name) for row in sorted(used)] for name in AXES}
        known = {name: column for name, column in axes.items() if _is_axis(column)}
        values["runs"].append({"name": run.folder.name, "x": known})
    for chart in charts:
        values["charts"][chart.name] = {
            "title": chart.title,
            "unit": chart.unit,
            "zero": chart.starts_at_zero,
            "series": series[chart.name],
        }
    return values


def charts_html(values: dict[str, Any]) -> Html:
    """Return the places that charts.js draws the charts of `charts_json` into."""
    figures = []
    for name, chart in values["charts"].items():
        if not chart["series"]:
            continue
        unit = tag("small", chart["unit"]) if chart["unit"] not in ("", "%") else None
        kind = "chart card large" if name == LOSS.name else "chart card"
        caption = tag("figcaption", tag("span", chart["title"]), unit)
        figures.append(tag("figure", caption, class_=kind, data_chart=name))
    controls = tag("div", class_="chart-controls")
    hint = tag(
        "noscript",
        tag("p", "Curves need JavaScript; metrics.jsonl has their values.", class_="note"),
    )
    return tag("div", controls, hint, tag("div", figures, class_="charts"))


def curves_html(values: dict[str, Any], label: str, total: int, order: str) -> Html:
    """Return the charts of several runs with a sentence about them.

    Args:
        label: a word for the labels of the runs.
        total: number of all runs.
        order: the word for those that are drawn, `best` or `first`.
    """
    text = f"Thick curves are validation, thin ones training. A click on a {label} hides it."
    text += describe_rest("run", "drawn", len(values["runs"]), total, order)
    return render(tag("p", text, class_="note"), charts_html(values))


def describe_rest(noun: str, verb: str, count: int, total: int, order: str) -> str:
    """Return a sentence about what a page leaves out, "" where it has all."""
    if count >= total:
        return ""
    rest = f"{total - count} more {'is' if total - count == 1 else 'are'} not"
    return f" Those of the {order} {format_count(count, noun)} are {verb}; {rest}."


def _names(chart: Chart, label: str, has_several: bool) -> dict[str, tuple[str, str]]:
    """Return, for each column of a chart, the label of its curve, and what it measures where the label is the run."""
    if has_several:
        return {column: (label, name) for column, name in chart.columns.items()}
    return {column: (name or chart.title, "") for column, name in chart.columns.items()}


def _read_curve(rows: Sequence[dict[str, Any]], column: str) -> Curve:
    present = [index for index, row in enumerate(rows) if isinstance(row.get(column), int | float)]
    values = [rows[index][column] for index in present]
    return Curve(present, [value if math.isfinite(value) else None for value in values])


def _round(value: float | None) -> float | None:
    """Return a value with six digits."""
    return None if value is None else float(f"{value:.6g}")


def _budget(chart: Chart, num_runs: int) -> int:
    return max(MIN_POINTS, (MAX_POINTS if chart.is_large else MAX_POINTS_OF_SMALL) // num_runs)


def _is_noticeable(curve: Curve) -> bool:
    return any((value or 0) >= timings.SHOWN_SHARE for value in curve.values)


def _style(chart: Chart, column: str) -> str:
    """Return the class of a curve: validation stands out from the noise of training."""
    if not chart.is_large:
        return "plain"
    return "bold" if column.startswith("val/") else "thin"


def _is_axis(column: Sequence[Any]) -> bool:
    """Return whether every row has a number that is not below that of the row before."""
    if not all(isinstance(value, int | float) for value in column):
        return False
    return all(a <= b for a, b in pairwise(column))
