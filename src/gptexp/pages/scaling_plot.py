"""The scaling fit of a ladder: its runs, the law, and predictions with their intervals, on two log axes."""

import math
from collections.abc import Iterable

from gptexp.comparing.ladder_points import LadderPoints
from gptexp.pages.markup import Content, Html, render, table, tag
from gptexp.pages.numbers import format_interval, format_number, format_time
from gptexp.statistics.scaling_law import PowerLaw, fit_power_law

HEIGHT, TOP, BOTTOM = 340, 56, 290  # pixels
LEFT, RIGHT = 8.0, 92.0  # percent of the width
CURVE_POINTS = 48
AHEAD = 4.0  # how far beyond the largest run the law is drawn where nothing is predicted
STEPS = (1, 2, 5)
MAX_NAME = 44  # characters


def scaling_html(ladder: LadderPoints) -> Html:
    """Return the fit of a ladder as a plot, sentences and a table."""
    points, predictions = ladder.points, ladder.predictions
    law = fit_power_law([each.flops for each in points], [each.loss for each in points])
    largest = points[-1].flops
    ahead = None if predictions else ladder.predict(AHEAD * largest)
    end = max(
        [largest, *(each.flops for each in predictions), *([AHEAD * largest] if ahead else [])]
    )
    losses = [each.loss for each in points] + [law.loss(end)]
    losses += [x for each in predictions for x in (each.low, each.high, each.measured or each.loss)]
    losses += [ahead.low, ahead.high] if ahead else []
    start = min([points[0].flops, *(each.flops for each in predictions)])
    plot = _Plot(start, end, min(losses), max(losses))
    marks: list[Content] = [plot.axes(ladder.metric), plot.law(law, points[0].flops, largest, end)]
    rows = [
        [point.label, "trained", _flops(point.flops), format_number(point.loss), ""]
        for point in points
    ]
    for point in points:
        text = f"{format_number(point.loss)} at {_flops(point.flops)} FLOPs"
        marks.append(plot.point(point.flops, point.loss, "trained", point.label, text))
    for each in predictions:
        kind = f"predicted {format_time(each.date)}"
        rows.append(
            [each.run, kind, _flops(each.flops), *_interval(each.loss, each.low, each.high)]
        )
        text = f"predicted {_sentence(each.loss, each.low, each.high)}"
        marks.append(
            plot.point(each.flops, each.loss, "predicted", each.run, text, each.low, each.high)
        )
        if each.measured is not None:
            rows.append(
                [each.run, "measured", _flops(each.flops), format_number(each.measured), ""]
            )
            text = f"measured {format_number(each.measured)}"
            marks.append(plot.point(each.flops, each.measured, "measured", each.run, text))
    if ahead:
        name = f"{AHEAD:g} times the largest"
        rows.append([name, "predicted", _flops(end), *_interval(ahead.loss, ahead.low, ahead.high)])
        text = f"predicted {_sentence(ahead.loss, ahead.low, ahead.high)}"
        marks.append(plot.point(end, ahead.loss, "predicted", name, text, ahead.low, ahead.high))
    picture = tag(
        "svg",
        marks,
        height=HEIGHT,
        class_="fit",
        role="group",
        aria_label=f"{ladder.metric} over FLOPs",
    )
    kinds = ["trained"] + ["predicted"] * bool(predictions or ahead)
    kinds += ["measured"] if any(each.measured is not None for each in predictions) else []
    columns = ["run", "kind", "training FLOPs", ladder.metric, "95 % interval"]
    return render(
        (tag("p", sentence, class_="note") for sentence in _sentences(ladder, law)),
        tag("figure", _legend(kinds), picture, class_="card"),
        tag("details", tag("summary", "values"), table(columns, rows)),
    )


def _sentences(ladder: LadderPoints, law: PowerLaw) -> Iterable[str]:
    """Return the law in words, and how well it predicts the largest rung from the others."""
    floor = f"{law.floor:.3g} + " if law.floor > 0 else ""
    yield (
        f"{ladder.metric} = {floor}{law.scale:.3g} · (FLOPs / {_flops(law.unit)})^−{law.exponent:.3g}. With "
        f"so few sizes the floor is hardly known: read predictions, not the floor. Intervals hold where the law holds."
    )
    if (check := ladder.check()) is None:
        yield "There are too few sizes to check the law on the largest of them: that takes four, and five runs."
        return
    largest = [point.loss for point in ladder.points if point.flops == ladder.points[-1].flops]
    measured = sum(largest) / len(largest)
    word = "covers" if check.low <= measured <= check.high else "misses"
    yield (
        f"Check: from the smaller sizes, the largest is predicted at {_sentence(check.loss, check.low, check.high)}, "
        f"which {word} the measured {format_number(measured)}. A straight line in log-log predicts "
        f"{format_number(check.straight)}."
    )


def _interval(loss: float, low: float, high: float) -> list[str]:
    return [format_number(loss), format_interval(low, high)]


def _sentence(loss: float, low: float, high: float) -> str:
    return f"{format_number(loss)}, 95 % interval {format_interval(low, high)}"


def _flops(value: float) -> str:
    return f"{value:.3g}".replace("e+", "e")


class _Plot:
    """Two log axes; x is placed in percent of the width, y in pixels."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self.x_range, self.y_range = (left, right), (low / 1.02, high * 1.02)

    def x(self, flops: float) -> float:
        return LEFT + (RIGHT - LEFT) * _share(flops, *self.x_range)

    def y(self, loss: float) -> float:
        return BOTTOM + (TOP - BOTTOM) * _share(loss, *self.y_range)

    def axes(self, metric: str) -> Html:
        """Return the lines and labels of both axes."""
        parts: list[Content] = [tag("text", metric, x=0, y=12)]
        for loss in _linear_ticks(*self.y_range):
            y = f"{self.y(loss):.1f}"
            parts.append(tag("line", x1=0, x2="100%", y1=y, y2=y, class_="grid"))
            parts.append(tag("text", format_number(loss), x=0, y=f"{self.y(loss) - 4:.1f}"))
        for flops in _log_ticks(*self.x_range):
            place = f"{self.x(flops):.2f}%"
            parts.append(tag("text", _flops(flops), x=place, y=BOTTOM + 22, text_anchor="middle"))
        parts.append(tag("text", "training FLOPs", x="100%", y=HEIGHT - 6, text_anchor="end"))
        return tag("g", parts, aria_hidden="true")

    def law(self, law: PowerLaw, start: float, largest: float, end: float) -> Html:
        """Return the curve of a law, dashed beyond the largest run."""
        curves = [tag("path", d=self._path(law, start, largest))]
        if end > largest:
            curves.append(tag("path", d=self._path(law, largest, end), class_="ahead"))
        return tag(
            "svg",
            curves,
            viewBox=f"0 0 100 {HEIGHT}",
            preserveAspectRatio="none",
            aria_hidden="true",
        )

    def _path(self, law: PowerLaw, start: float, end: float) -> str:
        ratio = (end / start) ** (1 / CURVE_POINTS)
        sizes = [start * ratio**number for number in range(CURVE_POINTS + 1)]
        return "M" + "L".join(f"{self.x(size):.2f} {self.y(law.loss(size)):.2f}" for size in sizes)

    def point(
        self,
        flops: float,
        loss: float,
        kind: str,
        name: str,
        text: str,
        low: float | None = None,
        high: float | None = None,
    ) -> Html:
        """Return a point that can be focused, with its interval, and the text that it shows then."""
        x, y = f"{self.x(flops):.2f}%", f"{self.y(loss):.1f}"
        whisker = None
        if low is not None and high is not None:
            ends = {"y1": f"{self.y(low):.1f}", "y2": f"{self.y(high):.1f}"}
            whisker = tag("line", x1=x, x2=x, class_="whisker", **ends)
        return tag(
            "g",
            whisker,
            tag("circle", cx=x, cy=y, r=12, class_="reach"),
            tag("circle", cx=x, cy=y, r=4.5, class_=f"mark {kind}"),
            (
                tag("text", line, x="50%", y=y, text_anchor="middle", class_="tip-label")
                for line, y in ((name[:MAX_NAME], 26), (text, 42))
            ),
            class_="point",
            tabindex=0,
            role="img",
            aria_label=f"{name}: {text}",
        )


def _legend(kinds: Iterable[str]) -> Html:
    def entry(kind: str) -> Html:
        circle = tag("circle", cx=7, cy=7, r=4.5, class_=kind)
        return tag("span", tag("svg", circle, class_="fit", aria_hidden="true"), kind)

    return tag("div", map(entry, kinds), class_="fit-legend")


def _share(value: float, low: float, high: float) -> float:
    return math.log(value / low) / (math.log(high / low) or 1.0)


def _linear_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers between both."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(x * power for x in (*STEPS, 10) if x * power >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return decades between both, with 2 and 5 times each where the decades are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = STEPS if math.log10(high / low) < 2 else (1,)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return [tick for tick in ticks if low <= tick <= high]
