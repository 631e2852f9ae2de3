"""The page of a comparison: metrics with verdicts, what differs, speed, and examples side by side."""

from collections.abc import Iterable
from pathlib import Path

from gptexp.comparing.compare_runs import Comparison, MetricRow
from gptexp.comparing.example_differences import ExampleComparison, ExampleDifference
from gptexp.comparing.facts import as_text
from gptexp.comparing.terminal import number_text, subject_names, summary_text
from gptexp.pages import shell
from gptexp.pages.curves import MAX_RUNS, CurveRun, charts_json, curves_html, describe_rest
from gptexp.pages.markup import Content, Html, render, table, tag
from gptexp.pages.media import MediaBudget, sample_cards
from gptexp.pages.run_page import CHART_SCRIPTS, STYLES
from gptexp.pages.verdicts import verdict_badge
from gptexp.wording import format_count


def format_comparison_page(comparison: Comparison, command: str, base: Path) -> str:
    """Return the page.

    Args:
        command: that has made the comparison.
        base: folder that the page will lie in, from which it links large files.
    """
    names = subject_names(comparison)
    runs = _labelled_runs(comparison, names)
    charts = charts_json(runs[:MAX_RUNS])
    has_charts = bool(charts["charts"])
    curves = curves_html(charts, "subject", len(runs), "first")
    sections = comparison_sections(comparison, names)
    sections[1:1] = [
        ("curves", "Curves", curves if has_charts else None),
        ("samples", "Samples", _samples(comparison, names, base)),
    ]
    sections.append(("reproduce", "Reproduce", shell.command_block(command)))
    subjects = tag(
        "ul",
        (
            tag("li", tag("strong", name), f" {subject.label}, seed ", _seeds(subject.seeds()))
            for name, subject in zip(names, comparison.subjects, strict=True)
        ),
        class_="subjects",
    )
    remarks = [tag("p", remark, class_="note") for remark in comparison.remarks]
    return shell.format_page(
        "Comparison",
        shell.header(_title(comparison, names), subjects, remarks, eyebrow="comparison"),
        shell.sections(sections),
        styles=[shell.read_asset(name) for name in (*STYLES, "comparison.css")],
        scripts=[shell.read_asset(name) for name in CHART_SCRIPTS] if has_charts else [],
        data={"charts": charts} if has_charts else None,
    )


def comparison_sections(comparison: Comparison, names: list[str]) -> list[shell.Section]:
    """Return the sections of a comparison; their style is comparison.css.

    Args:
        names: short names of the subjects.
    """
    return [
        ("metrics", "Metrics", _metrics(comparison, names)),
        ("settings", "Settings", _settings(comparison, names)),
        ("data", "Data, code and machine", _facts(comparison, names)),
        ("speed", "Speed", _speed(comparison, names)),
        ("examples", "Examples", _examples(comparison, names)),
    ]


def _labelled_runs(comparison: Comparison, names: list[str]) -> list[CurveRun]:
    """Return the runs of all subjects; the seeds of a subject share its label."""
    return [
        CurveRun(f"{name} {subject.label}", run)
        for name, subject in zip(names, comparison.subjects, strict=True)
        for run in subject.runs
    ]


def _samples(comparison: Comparison, names: list[str], base: Path) -> Html | None:
    """Return the samples of the first run of each subject, side by side."""
    pairs = list(zip(names, comparison.subjects, strict=True))[:MAX_RUNS]
    cards = sample_cards({name: subject.runs[0] for name, subject in pairs}, MediaBudget(base))
    if not cards:
        return None
    rest = describe_rest("subject", "shown", len(pairs), len(names), "first").strip()
    note = tag("p", rest, class_="note") if rest else None
    return render(note, tag("div", cards, class_="samples"))


def _title(comparison: Comparison, names: list[str]) -> str:
    """Return the verdict on the primary metric of two subjects, or what is compared."""
    primary = comparison.primary()
    if comparison.incomparable:
        return "Not comparable"
    if primary and len(names) == 2 and (verdict := primary.verdicts[1]):
        return f"{names[1]} against {names[0]}: {verdict.word}"
    return format_count(len(names), "subject")


def _seeds(seeds: Iterable[object]) -> str:
    return ", ".join(map(str, seeds))


def _metrics(comparison: Comparison, names: list[str]) -> list[Content]:
    content: list[Content] = []
    if comparison.incomparable:
        content.append(tag("p", f"Not comparable: {comparison.incomparable}.", class_="status bad"))
    primary = comparison.primary()
    if primary:
        for number, name in enumerate(names[1:], 1):
            verdict, reason = primary.verdicts[number], primary.reasons[number]
            text = verdict.sentence if verdict else reason
            content.append(
                tag("p", tag("strong", f"{primary.name}, {name} against {names[0]}: "), text)
            )
    if comparison.metrics:
        others = [f"{name} against {names[0]}" for name in names[1:]]
        rows = [_metric_cells(row) for row in comparison.metrics]
        content.append(table(["metric", *names, *others], rows))
    return content


def _metric_cells(row: MetricRow) -> list[Content]:
    verdicts = [
        verdict_badge(verdict) if verdict else reason
        for verdict, reason in zip(row.verdicts[1:], row.reasons[1:], strict=True)
    ]
    return [row.name, *map(summary_text, row.summaries), *verdicts]


def _settings(comparison: Comparison, names: list[str]) -> list[Content]:
    affecting = [row for row in comparison.settings if row.affects_result]
    neutral = [row.key for row in comparison.settings if not row.affects_result]
    content: list[Content] = [tag("p", "The settings are the same.")]
    if affecting:
        rows = [[row.key, *map(as_text, row.values)] for row in affecting]
        content = [table(["setting", *names], rows)]
    if neutral:
        text = f"Without effect on the result, these differ, too: {', '.join(neutral)}."
        content.append(tag("p", text, class_="note"))
    return content


def _facts(comparison: Comparison, names: list[str]) -> list[Content]:
    rows = []
    for row in comparison.facts:
        same = [row.values[0], *["the same"] * (len(names) - 1)]
        rows.append([row.name, *(same if row.is_same else row.values)])
    return [table(["", *names], rows)]


def _speed(comparison: Comparison, names: list[str]) -> list[Content]:
    rows = [[row.name, *map(number_text, row.values)] for row in comparison.speed]
    return [table(["", *names], rows)] if rows else []


def _examples(comparison: Comparison, names: list[str]) -> list[Content]:
    content: list[Content] = []
    for name, examples in zip(names[1:], comparison.examples, strict=True):
        if examples is None:
            continue
        total = examples.wins + examples.losses + examples.ties
        text = (
            f"By {examples.metric} of {total:,} examples, {name} wins {examples.wins:,} against {names[0]}, loses "
            f"{examples.losses:,} and ties {examples.ties:,}."
        )
        content.append(tag("p", text))
        content += _example_cards(examples, names[0], name)
    return content


def _example_cards(examples: ExampleComparison, first: str, second: str) -> list[Content]:
    shown = [("wins", example) for example in examples.largest_wins]
    shown += [("loses", example) for example in examples.largest_losses]
    return [_card(word, example, first, second) for word, example in shown]


def _card(word: str, example: ExampleDifference, first: str, second: str) -> Html:
    texts = [
        ("input", example.input),
        ("reference", example.reference),
        (f"{first}: {example.scores[0]:.4g}", example.outputs[0]),
        (f"{second}: {example.scores[1]:.4g}", example.outputs[1]),
    ]
    kind = "good" if word == "wins" else "bad"
    entries = [(tag("dt", label), tag("dd", text or "(nothing)")) for label, text in texts]
    heading = tag("p", tag("span", f"{second} {word}", class_=f"status {kind}"))
    return tag("div", heading, tag("dl", entries), class_="card example")
