"""The page of a run: its result, curves, samples, settings, data and history, in one file that needs no other."""

from pathlib import Path
from typing import Any

from gptexp.files import write_text
from gptexp.pages import shell
from gptexp.pages.curves import CurveRun, charts_html, charts_json
from gptexp.pages.insight import attention_json, insight_html
from gptexp.pages.markup import Content, Html, render, tag
from gptexp.pages.media import MediaBudget, sample_cards
from gptexp.pages.metrics import headline, metrics_table, primary_metric, read_metrics
from gptexp.pages.numbers import format_large, format_number, format_seconds, format_time
from gptexp.pages.records import data_html, environment_html, history_html, reproduce_html
from gptexp.pages.settings import settings_html
from gptexp.runs import timings
from gptexp.runs.run_folder import RunFolder

STATUS_CLASSES = {"finished": "good", "failed": "bad"}
STYLES = ("charts.css", "report.css")
CHART_SCRIPTS = ("scales.js", "charts.js")

Rows = list[dict[str, Any]]


def write_run_page(folder: RunFolder) -> Path:
    """Write report.html into a run folder, and return its path."""
    write_text(folder.report_file, format_run_page(folder))
    return folder.report_file


def format_run_page(folder: RunFolder, base: Path | None = None) -> str:
    """Return the page of a run.

    Args:
        base: folder that the page will lie in, from which it links large files; None: the run folder.
    """
    config, result = folder.config_values(), folder.result()
    run = CurveRun(folder.name, folder)
    charts = charts_json([run])
    insight = folder.read_record("insight")
    samples = sample_cards({folder.name: folder}, MediaBudget(base or folder.path))
    environment, data = folder.read_record("environment"), folder.read_record("data")
    metrics = read_metrics(result.get("metrics", {}))
    sections: list[shell.Section] = [
        ("curves", "Curves", charts_html(charts) if charts["charts"] else None),
        ("metrics", "Metrics", metrics_table(metrics) if metrics else None),
        ("samples", "Samples", tag("div", samples, class_="samples") if samples else None),
        ("tokens", "Inside the model", insight_html(insight)),
        ("settings", "Settings", settings_html(config)),
        ("data", "Data", data_html(data) if data else None),
        ("reproduce", "Reproduce", reproduce_html(environment)),
        ("environment", "Environment", environment_html(environment) if environment else None),
        ("history", "History", history_html(folder)),
    ]
    embedded: dict[str, Any] = {}
    scripts: list[str] = []
    if charts["charts"]:
        embedded["charts"] = charts
        scripts += CHART_SCRIPTS
    if attention := attention_json(insight):
        embedded["attention"] = attention
        scripts += [*(() if scripts else CHART_SCRIPTS[:1]), "attention.js"]
    return shell.format_page(
        folder.name,
        _masthead(folder, config, result, environment),
        _result(run.rows, result, config, environment),
        shell.sections(sections),
        styles=[shell.read_asset(name) for name in STYLES],
        scripts=[shell.read_asset(name) for name in scripts],
        data=embedded,
    )


def _masthead(
    folder: RunFolder, config: dict[str, Any], result: dict[str, Any], environment: dict[str, Any]
) -> Html:
    status = str(result.get("status", "no result"))
    badge = tag("span", status, class_=f"status {STATUS_CLASSES.get(status, 'unsure')}")
    words = [
        format_time(str(environment.get("time", ""))),
        str(config.get("name") or ""),
        *map(str, config.get("tags") or []),
    ]
    line = " · ".join(word for word in words if word)
    model = config.get("model", {}).get("size", "")
    eyebrow = f"{config.get('task', {}).get('kind', '')}, model {model}"
    below = tag("div", badge, tag("span", line, class_="note"), class_="masthead")
    return shell.header(folder.name, below, eyebrow=eyebrow)


def _result(
    rows: Rows, result: dict[str, Any], config: dict[str, Any], environment: dict[str, Any]
) -> Html:
    parts: list[Content] = []
    if error := result.get("error"):
        parts.append(tag("p", str(error), class_="error"))
    if metric := primary_metric(result):
        parts.append(headline(metric, bool(result.get("higher_is_better"))))
    if remarks := result.get("remarks"):
        parts.append(tag("ul", (tag("li", str(remark)) for remark in remarks), class_="remarks"))
    facts = run_facts(rows, result, config, environment)
    parts.append(
        tag(
            "dl",
            (tag("div", tag("dt", name), tag("dd", value)) for name, value in facts),
            class_="facts",
        )
    )
    return render(parts)


def run_facts(
    rows: Rows, result: dict[str, Any], config: dict[str, Any], environment: dict[str, Any]
) -> list[tuple[str, Content]]:
    """Return names and values of what a run is in a few words: its work, its speed and its size.

    Args:
        rows: of metrics.jsonl.
    """
    last = rows[-1] if rows else {}
    steps = result.get("steps", last.get("step", 0))
    planned = config.get("trainer", {}).get("max_steps")
    seconds = result.get("train_seconds", last.get("seconds"))
    losses = [row["val/loss"] for row in rows if isinstance(row.get("val/loss"), int | float)]
    memory = [row[timings.PEAK_MEMORY] for row in rows if timings.PEAK_MEMORY in row]
    mfu = [row[timings.MFU] for row in rows if timings.MFU in row]
    device = environment.get("device", {})
    processes = environment.get("processes", 1)
    facts: list[tuple[str, Content]] = [
        ("steps", f"{steps:,}" if steps == planned or not planned else f"{steps:,} of {planned:,}"),
        ("tokens", format_large(result.get("tokens") or last.get("tokens", 0))),
    ]
    if "flops" in last:
        facts.append(("training FLOPs", f"{last['flops']:.3g}"))
    if seconds:
        facts.append(("training time", format_seconds(seconds)))
    if speed := result.get("tokens_per_second"):
        facts.append(("throughput", f"{speed:,.0f} tokens/s"))
    if mfu:
        facts.append(("MFU", f"{sorted(mfu)[len(mfu) // 2]:.1%}"))
    if memory:
        facts.append(("peak memory", f"{max(memory):.2f} GiB"))
    if parameters := result.get("parameters"):
        facts.append(("parameters", format_large(parameters)))
    if losses:
        facts.append(("best validation loss", format_number(min(losses))))
    if precision := result.get("precision"):
        facts.append(("precision", precision))
    name = device.get("name") or device.get("type", "")
    threads = f", {device['threads']} threads" if "threads" in device else ""
    if name:
        facts.append(("device", f"{name}{threads}" + (f" × {processes}" if processes > 1 else "")))
    facts.append(("seed", str(config.get("seed", ""))))
    return facts
