"""The settings of a sweep against its metric: their importance, and a heat map or parallel coordinates.

The plots are SVG without scripts: x is in percent of the width, y in pixels, so that texts keep their size on a phone.
"""

import math
from collections.abc import Iterable, Sequence

from gptexp.comparing.sweep_results import SweepResults, SweepRow
from gptexp.comparing.swept_settings import SweptSetting, swept_settings
from gptexp.comparing.terminal import summary_text
from gptexp.pages.markup import Content, Html, render, table, tag
from gptexp.pages.numbers import format_number
from gptexp.wording import format_count

NUM_SHADES = 8  # shade-1, the worst, to shade-8 of sweep.css
MAX_LINES = 64  # configs whose lines are drawn, the best ones
MAX_LABELS = 6  # of an axis
MAX_LABEL = 14  # characters
LABEL_GAP = 9.0  # least distance of two labels, in percent of the width
LOG_RATIO = 4.0  # positive numbers that differ by more have a log axis
LEFT, RIGHT = 5.0, 93.0  # ends of an axis, in percent
ROW_HEIGHT, AXIS = 72, 42  # pixels from one axis to the next, and of an axis in its row


def settings_html(results: SweepResults) -> Html | None:
    """Return what the swept settings do to the primary metric; None: there are fewer than two, or no results."""
    rows = [row for row in results.rows if _mean(row, results) is not None]
    settings = swept_settings(rows)
    if not results.primary_metric or len(settings) < 2:
        return None
    means = [_mean(row, results) or 0.0 for row in rows]
    plot = _heat_map(results) or _parallel(results, rows, settings, means)
    return render(_importance(results.primary_metric, settings, means), plot)


def _mean(row: SweepRow, results: SweepResults) -> float | None:
    summary = row.metrics.get(results.primary_metric)
    return None if summary is None else summary.mean


# --- importance ---


def _importance(metric: str, settings: Sequence[SweptSetting], means: Sequence[float]) -> Html:
    """Return a table of the settings, the most important first, with a bar for each share."""
    found = [(setting.key, setting.importance(means)) for setting in settings]
    found.sort(key=lambda pair: -(pair[1].share or 0.0))
    rows: list[Content] = []
    for key, each in found:
        name = tag("th", tag("code", key), scope="row")
        if each.share is None or each.by_luck is None:
            rows.append(tag("tr", name, tag("td", each.reason, colspan=4, class_="note")))
            continue
        kind = "range" if each.in_ranges else "value"
        cells = [
            tag("td", f"{100 * share:.0f} %", class_="number")
            for share in (each.share, each.by_luck)
        ]
        bar = tag("td", _bar(each.share, each.by_luck), class_="plot-cell")
        rows.append(
            tag("tr", name, cells[0], bar, cells[1], tag("td", format_count(each.groups, kind)))
        )
    titles = [
        tag("th", "setting", scope="col"),
        tag("th", "explains", scope="col", class_="number"),
        tag("th", tag("span", "plot", class_="visually-hidden"), scope="col"),
        tag("th", "by luck alone", scope="col", class_="number"),
        tag("th", "in", scope="col"),
    ]
    note = (
        f"Share of the variance of {metric} between {format_count(len(means), 'config')} that the values of a setting "
        f"explain. The mark is the share that a setting without any effect would explain on average: a bar that is not "
        f"well beyond it shows nothing. The rest is noise, and settings that matter only together."
    )
    content = tag("table", tag("thead", tag("tr", titles)), tag("tbody", rows), class_="full")
    box = tag("div", content, class_="scroll", tabindex=0, role="group", aria_label="importance")
    return render(tag("h3", "Importance"), tag("p", note, class_="note"), box)


def _bar(share: float, by_luck: float) -> Html:
    mark = f"{100 * by_luck:.1f}%"
    return tag(
        "svg",
        tag("rect", width="100%", height="40%", y="30%", class_="rail"),
        tag("rect", width=f"{100 * share:.1f}%", height="40%", y="30%", class_="share"),
        tag("line", x1=mark, x2=mark, y1="15%", y2="85%", class_="tick"),
        class_="strip",
        aria_hidden="true",
    )


# --- heat map ---


def _heat_map(results: SweepResults) -> Html | None:
    """Return a table of the metric over two settings; None: the configs are no full grid of two."""
    settings = swept_settings(results.rows)
    if len(settings) != 2:
        return None
    down, across = sorted(settings, key=lambda setting: -len(set(setting.values)))
    cells = dict(zip(zip(down.values, across.values, strict=True), results.rows, strict=True))
    downs, acrosses = _ordered(down), _ordered(across)
    if not len(cells) == len(results.rows) == len(downs) * len(acrosses):
        return None
    shades = _shades([_mean(row, results) for row in results.rows], results.higher_is_better)
    shade_of = {id(row): shade for row, shade in zip(results.rows, shades, strict=True)}
    body = (
        tag(
            "tr",
            tag("th", tag("code", value), scope="row"),
            (_cell(cells[value, other], results, shade_of) for other in acrosses),
        )
        for value in downs
    )
    corner = tag("td", tag("code", down.key), " ↓")
    head = tag("tr", corner, (tag("th", tag("code", value), scope="col") for value in acrosses))
    top = tag(
        "tr", tag("td"), tag("th", tag("code", across.key), scope="colgroup", colspan=len(acrosses))
    )
    content = tag("table", tag("thead", top, head), tag("tbody", body), class_="heat")
    return render(
        tag("h3", f"{results.primary_metric} over both settings"),
        tag("p", _direction(results), "; ", _colour_note(results), class_="note"),
        tag("div", content, class_="scroll", tabindex=0, role="group", aria_label="heat map"),
    )


def _cell(row: SweepRow, results: SweepResults, shade_of: dict[int, int]) -> Html:
    mean = _mean(row, results)
    if mean is None:
        return tag("td", ", ".join(dict.fromkeys(job.state for job in row.jobs)), class_="note")
    summary = summary_text(row.metrics[results.primary_metric])
    best = tag("small", " best") if row.is_best else None
    shade = f"number shade-{shade_of[id(row)]}"
    return tag(
        "td",
        tag("b" if row.is_best else "span", format_number(mean)),
        best,
        class_=shade,
        title=summary,
    )


# --- parallel coordinates ---


def _parallel(
    results: SweepResults, rows: list[SweepRow], settings: list[SweptSetting], means: list[float]
) -> Html:
    """Return one line for each config through an axis for each setting and one for the metric."""
    metric = results.primary_metric
    texts = [format_number(mean) for mean in means]
    axes = [_Axis(setting.key, setting.values, setting.numbers) for setting in settings]
    axes.append(_Axis(f"{metric}, {_direction(results)}", texts, means, always_numbers=True))
    height = ROW_HEIGHT * len(axes)
    shades = _shades(means, results.higher_is_better)
    drawn = sorted(range(len(rows)), key=lambda index: shades[index])[-MAX_LINES:]
    lines = (
        _line(index, axes, rows[index].label, metric, texts[index], shades[index])
        for index in drawn
    )
    plot = tag(
        "svg",
        lines,
        (axis.draw(number) for number, axis in enumerate(axes)),
        height=height,
        class_="parallel",
        role="group",
        aria_label="configs as lines through their settings",
    )
    note = (
        "A line is a config: the stronger its colour, the better its rank. "
        "Point at a line, or reach it with Tab, for its values."
    )
    if len(rows) > MAX_LINES:
        note += f" The best {MAX_LINES} of {len(rows)} are drawn."
    if missing := len(results.rows) - len(rows):
        note += f" {format_count(missing, 'config')} without a result: no line."
    columns = [*(tag("code", setting.key) for setting in settings), metric, "seeds"]
    values = (
        [
            *(setting.values[index] for setting in settings),
            summary_text(rows[index].metrics[metric]),
            str(rows[index].metrics[metric].n),
        ]
        for index in range(len(rows))
    )
    return render(
        tag("h3", "Settings and result"),
        tag("p", note, class_="note"),
        tag("figure", plot, class_="card"),
        tag("details", tag("summary", "values"), table(columns, values)),
    )


class _Axis:
    """A horizontal axis: where each value lies, and its labels. Numbers that differ widely have a log scale."""

    def __init__(
        self,
        title: str,
        texts: list[str],
        numbers: list[float] | None,
        always_numbers: bool = False,
    ) -> None:
        self.title, self.texts = title, texts
        self.is_log = False
        if numbers is None:
            categories = list(dict.fromkeys(texts))
            places = {text: number for number, text in enumerate(categories)}
            numbers = [float(places[text]) for text in texts]
            stops = [(text, float(number)) for text, number in places.items()]
        else:
            low, high = min(numbers), max(numbers)
            self.is_log = not always_numbers and low > 0 and low * LOG_RATIO <= high
            if always_numbers or len(set(numbers)) > MAX_LABELS:
                middle = math.sqrt(low * high) if self.is_log else (low + high) / 2
                digits = 4 if always_numbers else 2
                stops = [(f"{x:.{digits}g}", float(f"{x:.{digits}g}")) for x in (low, middle, high)]
            else:
                stops = sorted(
                    dict(zip(texts, numbers, strict=True)).items(), key=lambda stop: stop[1]
                )
        self.low, self.high = (self._transform(end) for end in (min(numbers), max(numbers)))
        self.places = [self._place(number) for number in numbers]
        self.labels = [(text, self._place(number)) for text, number in stops]

    def _transform(self, number: float) -> float:
        return math.log(number) if self.is_log else number

    def _place(self, number: float) -> float:
        share = (self._transform(number) - self.low) / (self.high - self.low or 1.0)
        return LEFT + (RIGHT - LEFT) * min(max(share, 0.0), 1.0)

    def draw(self, row: int) -> Html:
        """Return the axis with its title above and its labels below."""
        y = row * ROW_HEIGHT + AXIS
        parts: list[Content] = [
            tag(
                "text",
                self.title + (" (log)" if self.is_log else ""),
                x=0,
                y=y - 28,
                class_="title",
            ),
            tag("line", x1=f"{LEFT}%", x2=f"{RIGHT}%", y1=y, y2=y, class_="axis"),
        ]
        step = math.ceil(len(self.labels) / MAX_LABELS)
        last = -math.inf
        for text, x in self.labels[::step]:
            parts.append(tag("line", x1=f"{x:.2f}%", x2=f"{x:.2f}%", y1=y, y2=y + 5, class_="axis"))
            if x - last >= LABEL_GAP:
                parts.append(_text(_shorten(text), x, y + 18, "tick-label"))
                last = x
        return tag("g", parts, aria_hidden="true")


def _line(index: int, axes: list[_Axis], label: str, metric: str, value: str, shade: int) -> Html:
    """Return the line of a config, which can be focused, with the values that it shows then."""
    heights = [number * ROW_HEIGHT + AXIS for number in range(len(axes))]
    points = [(axis.places[index], y) for axis, y in zip(axes, heights, strict=True)]
    path = "M" + "L".join(f"{x:.2f} {y}" for x, y in points)
    box = {"viewBox": f"0 0 100 {ROW_HEIGHT * len(axes)}", "preserveAspectRatio": "none"}
    texts = (
        _text(_shorten(axis.texts[index]), x, y - 9, "value-label")
        for axis, (x, y) in zip(axes, points, strict=True)
    )
    return tag(
        "g",
        tag(
            "svg", tag("path", d=path, class_="reach"), tag("path", d=path, class_="stroke"), **box
        ),
        (tag("circle", cx=f"{x:.2f}%", cy=y, r=3.2) for x, y in points),
        texts,
        class_=f"line line-{shade}",
        tabindex=0,
        role="img",
        aria_label=f"{label}: {metric} {value}",
    )


def _text(text: str, x: float, y: float, kind: str) -> Html:
    """Return a text that does not leave the plot on either side."""
    anchor = "start" if x < 12 else "end" if x > 88 else "middle"
    return tag("text", text, x=f"{x:.2f}%", y=y, text_anchor=anchor, class_=kind)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…"


def _ordered(setting: SweptSetting) -> list[str]:
    """Return the different values, numbers by size."""
    numbers = setting.numbers
    if numbers is None:
        return list(dict.fromkeys(setting.values))
    pairs = dict(zip(setting.values, numbers, strict=True))
    return sorted(pairs, key=lambda value: pairs[value])


def _shades(means: Iterable[float | None], higher_is_better: bool | None) -> list[int]:
    """Return the shade of each mean by its rank, NUM_SHADES for the best; one diverged config takes no colour away."""
    means = list(means)
    ranked = sorted({mean for mean in means if mean is not None}, reverse=higher_is_better is False)
    place = {mean: number for number, mean in enumerate(ranked)}
    top = max(len(ranked) - 1, 1)
    return [
        1 if mean is None else 1 + round((NUM_SHADES - 1) * place[mean] / top) for mean in means
    ]


def _colour_note(results: SweepResults) -> str:
    rank = "higher the value" if results.higher_is_better is None else "better the rank"
    return f"the stronger the colour, the {rank}."


def _direction(results: SweepResults) -> str:
    if results.higher_is_better is None:
        return "nothing says which direction is better"
    return "higher is better" if results.higher_is_better else "lower is better"
