"""The page of a sweep: its configs with verdicts, settings, scaling fit and curves, and each job with its reason."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from gptexp.comparing.ladder_points import read_points
from gptexp.comparing.sweep_results import SweepResults, SweepRow
from gptexp.comparing.terminal import summary_text
from gptexp.files import write_text
from gptexp.pages import shell
from gptexp.pages.curves import MAX_RUNS, CurveRun, charts_json, curves_html
from gptexp.pages.markup import Content, Html, render, table, tag
from gptexp.pages.metrics import Dot, Scale, strip
from gptexp.pages.numbers import format_interval, format_number, format_time
from gptexp.pages.run_page import CHART_SCRIPTS, STYLES
from gptexp.pages.scaling_plot import scaling_html
from gptexp.pages.setting_plots import settings_html
from gptexp.pages.verdicts import verdict_badge
from gptexp.runs.sweep_folder import JobEntry, SweepFolder
from gptexp.statistics.summary import Summary
from gptexp.wording import format_count

STATE_CLASSES = {"finished": "good", "failed": "bad"}


def write_sweep_page(folder: SweepFolder, results: SweepResults) -> Path:
    """Write report.html into a sweep folder, and return its path."""
    write_text(folder.report_file, format_sweep_page(folder, results))
    return folder.report_file


def format_sweep_page(folder: SweepFolder, results: SweepResults, base: Path | None = None) -> str:
    """Return the page of a sweep.

    Args:
        base: folder that the page will lie in, from which it links the pages of runs; None: the sweep folder.
    """
    runs = _curve_runs(results)
    charts = charts_json(runs, loss_only=True)
    command = [str(word) for word in folder.settings().get("command", [])]
    ladder = read_points(folder, results)
    has_charts = any(chart["series"] for chart in charts["charts"].values())
    curves = curves_html(charts, "config", len(results.runs), "best")
    sections: list[shell.Section] = [
        ("configs", "Configs", _configs(results)),
        ("settings", "Settings", settings_html(results)),
        ("scaling", "Scaling", scaling_html(ladder) if ladder else None),
        ("curves", "Curves", curves if has_charts else None),
        ("jobs", "Jobs", _jobs(folder, results.jobs, base or folder.path)),
        ("reproduce", "Reproduce", shell.command_block(shlex.join(command)) if command else None),
    ]
    return shell.format_page(
        folder.name,
        _masthead(folder, results),
        _best(results),
        shell.sections(sections),
        styles=[shell.read_asset(name) for name in (*STYLES, "sweep.css")],
        scripts=[shell.read_asset(name) for name in CHART_SCRIPTS] if has_charts else [],
        data={"charts": charts} if has_charts else {},
    )


def _masthead(folder: SweepFolder, results: SweepResults) -> Html:
    settings = folder.settings()
    chips = [
        tag("span", f"{count} {state}", class_=f"status {STATE_CLASSES.get(state, 'unsure')}")
        for state, count in results.counts().items()
    ]
    keys = ", ".join(map(str, settings.get("keys") or []))
    seeds = settings.get("seeds")
    words = [
        format_time(str(settings.get("created") or "")),
        f"over {keys}" if keys else "",
        f"seeds {', '.join(map(str, seeds))}" if seeds else "",
    ]
    line = tag("span", " · ".join(word for word in words if word), class_="note")
    eyebrow = f"sweep of {format_count(len(results.jobs), 'job')}"
    return shell.header(folder.name, tag("div", chips, line, class_="masthead"), eyebrow=eyebrow)


def _best(results: SweepResults) -> Html:
    """Return the best config with its mean and interval, and what to know about it."""
    best = results.best()
    if best is None:
        return render(tag("p", note) for note in results.notes)
    summary = best.metrics[results.primary_metric]
    interval = format_interval(summary.low, summary.high)
    direction = "higher is better" if results.higher_is_better else "lower is better"
    seeds = f"mean of {format_count(summary.n, 'seed')}" if summary.n > 1 else "one seed"
    number = tag(
        "div",
        tag("p", tag("strong", results.primary_metric), f", {direction}", class_="label"),
        tag("p", format_number(summary.mean), class_="big"),
        tag("p", f"{seeds}, 95 % interval {interval}" if interval else seeds, class_="note"),
        class_="figure",
    )
    config = tag(
        "div",
        tag("p", "best config", class_="label"),
        shell.command_block(best.label),
        (tag("p", note, class_="note") for note in results.notes),
    )
    return tag("div", number, config, class_="card headline")


def _configs(results: SweepResults) -> Html:
    """Return a table of the configs, the best first, with their intervals on one scale."""
    metrics = [name for name in (results.primary_metric, results.loss_name()) if name]
    primary = [row.metrics.get(results.primary_metric) for row in results.rows]
    dots = [_dot(summary) for summary in primary]
    ends = [x for dot in dots if dot for x in (dot.value, dot.low, dot.high) if x is not None]
    scale = Scale(ends) if ends else None
    best = dots[0].value if dots and dots[0] else None
    rows: list[Content] = []
    for row, dot in zip(results.rows, dots, strict=True):
        values = [
            tag("td", summary_text(row.metrics.get(name)), class_="number") for name in metrics
        ]
        plot = strip([dot], scale, best) if dot and scale else None
        cells = [
            tag("td", _against_best(row), class_="verdict"),
            tag("td", plot, class_="plot-cell"),
        ]
        name = tag("th", tag("code", row.label), scope="row")
        rows.append(tag("tr", name, values[:1], cells, values[1:]))
    heads = [tag("th", name, scope="col", class_="number") for name in metrics]
    titles = [
        tag("th", "config", scope="col"),
        *heads[:1],
        tag("th", "against the best", scope="col"),
        tag("th", tag("span", "plot", class_="visually-hidden"), scope="col"),
        *heads[1:],
    ]
    content = tag("table", tag("thead", tag("tr", titles)), tag("tbody", rows), class_="full")
    box = tag("div", content, class_="scroll", tabindex=0, role="group", aria_label="configs")
    return render(box, _sentences(results.rows))


def _dot(summary: Summary | None) -> Dot | None:
    if summary is None or summary.mean is None:
        return None
    return Dot("", summary.mean, summary.low, summary.high)


def _against_best(row: SweepRow) -> Content:
    if row.is_best:
        return tag("span", "best", class_="status good")
    if row.verdict is None:
        return tag("span", row.reason.partition(":")[0], class_="note", title=row.reason)
    return verdict_badge(row.verdict)


def _sentences(rows: Iterable[SweepRow]) -> Html | None:
    """Return the verdicts as sentences, which say what could have been seen and how many more seeds would help."""
    items = [
        tag("li", tag("code", row.label), f": {row.verdict.sentence}")
        for row in rows
        if row.verdict
    ]
    if not items:
        return None
    return tag("details", tag("summary", "the verdicts in words"), tag("ul", items))


def _curve_runs(results: SweepResults) -> list[CurveRun]:
    """Return the runs whose curves are drawn, those of the best configs first, with their config as the label."""
    runs = [
        CurveRun(row.label, results.runs[job.number].folder)
        for row in results.rows
        for job in row.jobs
        if job.number in results.runs
    ]
    return runs[:MAX_RUNS]


def _jobs(folder: SweepFolder, jobs: list[JobEntry], base: Path) -> Html:
    rows = []
    for job in jobs:
        state = tag("span", job.state, class_=f"status {STATE_CLASSES.get(job.state, 'unsure')}")
        run = folder.run_folder(job)
        name: Content = job.run
        if run and run.report_file.is_file():
            name = tag("a", job.run, href=shell.link(run.report_file, base))
        rows.append([str(job.number), tag("code", " ".join(job.words)), state, name, job.reason])
    return table(["job", "settings", "state", "run", "reason"], rows, class_="full jobs")
