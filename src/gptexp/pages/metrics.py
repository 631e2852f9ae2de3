"""The metrics of a run beside what they are compared with: the naive baseline, and the model before training."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gptexp.pages.markup import Content, Html, tag
from gptexp.pages.numbers import format_interval, format_number
from gptexp.runs.tables import COMPANIONS, is_companion

PAD = 0.06  # free space on both sides of a dot plot


@dataclass(frozen=True)
class Metric:
    """A metric of a split, with its 95 % interval, baseline and value before training where these are known."""

    split: str
    leaf: str
    value: float
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    before: float | None = None

    @property
    def points(self) -> list[float]:
        """Return every number that is known of it."""
        values = (self.value, self.low, self.high, self.baseline, self.before)
        return [value for value in values if value is not None]


@dataclass(frozen=True)
class Dot:
    """A row of a dot plot: a value with its interval."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    kind: str = "dot"  # class of the mark


class Scale:
    """Place values between 0 and 100 % of a width."""

    def __init__(self, values: list[float]) -> None:
        self.low, high = min(values), max(values)
        self.span = high - self.low or 1.0

    def __call__(self, value: float) -> str:
        return f"{100 * (PAD + (1 - 2 * PAD) * (value - self.low) / self.span):.2f}%"


def read_metrics(metrics: dict[str, float]) -> list[Metric]:
    """Return the metrics of result.json, with what belongs to each."""
    rows = []
    for name, value in metrics.items():
        if is_companion(name) or name == "val/targets":
            continue
        split, _, leaf = name.rpartition("/")
        companions = {kind: metrics.get(f"{split}/{kind}/{leaf}") for kind in COMPANIONS}
        rows.append(Metric(split, leaf, value, **companions))
    return rows


def primary_metric(result: dict[str, Any]) -> Metric | None:
    """Return the task's primary metric; None: the run has not been evaluated, or nothing was held out."""
    name = result.get("primary_metric")
    for metric in read_metrics(result.get("metrics", {})):
        if f"{metric.split}/{metric.leaf}" == name:
            return metric
    return None


def headline(metric: Metric, higher_is_better: bool) -> Html:
    """Return the primary metric in large digits, and beside it a dot plot with what it is compared with."""
    interval = format_interval(metric.low, metric.high)
    direction = "higher is better" if higher_is_better else "lower is better"
    number = tag(
        "div",
        tag("p", f"{metric.split} ", tag("strong", metric.leaf), class_="label"),
        tag("p", format_number(metric.value), class_="big"),
        tag("p", f"95 % interval {interval}" if interval else "no interval", class_="note"),
        tag("p", direction, class_="note"),
        class_="figure",
    )
    dots = [Dot("this run", metric.value, metric.low, metric.high)]
    if metric.before is not None:
        dots.append(Dot("before training", metric.before, kind="hollow"))
    if metric.baseline is not None:
        dots.append(Dot("naive baseline", metric.baseline, kind="tick"))
    plot = dot_plot(dots, metric.baseline) if len(dots) > 1 else None
    return tag("div", number, plot, class_="card headline")


def dot_plot(dots: Iterable[Dot], reference: float | None = None) -> Html:
    """Return rows of a label, a mark on a common scale, and the number.

    Args:
        reference: a value that a vertical line marks in all rows.
    """
    dots = list(dots)
    ends = [x for dot in dots for x in (dot.value, dot.low, dot.high) if x is not None]
    place = Scale([*ends, *([reference] if reference is not None else [])])
    rows: list[Content] = []
    for dot in dots:
        number = [tag("b", format_number(dot.value))]
        if interval := format_interval(dot.low, dot.high):
            number.append(tag("small", f" {interval}"))
        marks = strip([dot], place, reference)
        rows += [tag("span", dot.label), marks, tag("span", number, class_="value")]
    return tag("div", rows, class_="dots")


def metrics_table(metrics: list[Metric]) -> Html:
    """Return a table of all metrics, with a heading for each split and a small plot for each metric."""
    has_before = any(metric.before is not None for metric in metrics)
    titles = ["metric", "model", "95 % interval", *(["before training"] if has_before else [])]
    head = [tag("th", title, scope="col", class_="number") for title in [*titles[1:], "baseline"]]
    rows: list[Content] = []
    for split in dict.fromkeys(metric.split for metric in metrics):
        heading = tag("th", split, colspan=len(titles) + 2, scope="rowgroup")
        rows.append(tag("tr", heading, class_="group"))
        for metric in (metric for metric in metrics if metric.split == split):
            numbers = [format_number(metric.value), format_interval(metric.low, metric.high)]
            numbers += [format_number(metric.before)] if has_before else []
            numbers.append(format_number(metric.baseline))
            cells = (tag("td", number, class_="number") for number in numbers)
            plot = tag("td", _strip(metric), class_="plot-cell")
            rows.append(tag("tr", tag("th", metric.leaf, scope="row"), cells, plot))
    last = tag("th", tag("span", "plot", class_="visually-hidden"), scope="col")
    table = tag(
        "table",
        tag("thead", tag("tr", tag("th", "metric", scope="col"), head, last)),
        rows,
        class_="full",
    )
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="metrics")


def _strip(metric: Metric) -> Html | None:
    """Return a plot on its own scale: a dot with its interval, a circle before training, a tick for the baseline."""
    if len(metric.points) < 2:
        return None
    dots = []
    if metric.baseline is not None:
        dots.append(Dot("", metric.baseline, kind="tick"))
    if metric.before is not None:
        dots.append(Dot("", metric.before, kind="hollow"))
    dots.append(Dot("", metric.value, metric.low, metric.high))
    return strip(dots, Scale(metric.points))


def strip(dots: Iterable[Dot], place: Scale, reference: float | None = None) -> Html:
    """Return one row of marks, with a vertical line at the reference."""
    line = _line(place(reference), "reference") if reference is not None else None
    marks = (_mark(dot, place) for dot in dots)
    return tag("svg", line, marks, class_="strip", aria_hidden="true")


def _line(x: str, kind: str, y1: str = "0", y2: str = "100%") -> Html:
    return tag("line", x1=x, x2=x, y1=y1, y2=y2, class_=kind)


def _mark(dot: Dot, place: Scale) -> Html:
    if dot.kind == "tick":
        return _line(place(dot.value), "tick", "20%", "80%")
    parts = []
    if dot.low is not None and dot.high is not None:
        whisker = {"x1": place(dot.low), "x2": place(dot.high), "y1": "50%", "y2": "50%"}
        parts.append(tag("line", class_="whisker", **whisker))
    parts.append(tag("circle", cx=place(dot.value), cy="50%", r=4.5, class_=dot.kind))
    return tag("g", parts)
