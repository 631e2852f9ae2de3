"""Print comparisons and the results of sweeps as text that fits a terminal."""

import shutil
import string
import textwrap
from collections.abc import Sequence

from gptexp.characters import reveal_invisible
from gptexp.comparing.compare_runs import Comparison, MetricRow
from gptexp.comparing.example_differences import ExampleComparison, ExampleDifference
from gptexp.comparing.facts import NOT_RECORDED, as_text
from gptexp.comparing.sweep_results import SweepResults, SweepRow
from gptexp.runs.sweep_folder import JobEntry
from gptexp.statistics.summary import Summary
from gptexp.statistics.verdict import Verdict
from gptexp.wording import format_count

MAX_COLUMNS = 5  # subjects that stand beside each other; more stand below each other
MAX_CELL = 32  # characters of a setting
SAMPLE_WIDTH = 400  # characters of an input, reference or output
LARGE = 1e9  # from here on, powers of ten
LETTERS = string.ascii_uppercase


def comparison_text(comparison: Comparison, width: int | None = None) -> str:
    """Return a comparison as lines."""
    width = width or terminal_width()
    names = subject_names(comparison)
    lines = [
        f"{name}  {subject.label}  (seed {', '.join(map(str, subject.seeds()))})"
        for name, subject in zip(names, comparison.subjects, strict=True)
    ]
    parts = [lines, _fact_lines(comparison, names, width)]
    if len(names) > MAX_COLUMNS:
        parts.append(_many_subjects(comparison, names, width))
    else:
        parts.insert(1, _setting_lines(comparison, names, width))
        parts.append(_metric_lines(comparison, names, width))
        parts.append(_speed_lines(comparison, names, width))
        parts += [
            _example_lines(examples, names[0], name, width)
            for name, examples in zip(names[1:], comparison.examples, strict=True)
            if examples
        ]
    parts.append([line for remark in comparison.remarks for line in _wrap(remark, width)])
    return "\n\n".join(_join(part) for part in parts if part)


def sweep_text(results: SweepResults, width: int | None = None) -> str:
    """Return the results of a sweep: its configs, the best first, and the jobs without a result."""
    width = width or terminal_width()
    states = ", ".join(f"{count} {state}" for state, count in results.counts().items())
    lines = [f"{results.name}: {format_count(len(results.jobs), 'job')} ({states})"]
    if len(results.rows) == 1 and len(results.jobs) > 1:
        return _join(lines + _seed_lines(results, width))
    metrics = [name for name in (results.primary_metric, results.loss_name()) if name]
    rows = [["config", *metrics, "against the best"]]
    for row in results.rows:
        cells = [summary_text(row.metrics.get(name)) for name in metrics]
        rows.append([row.label, *cells, _sweep_verdict(row)])
    if not results.primary_metric:
        rows = [["config", "result"], *([row.label, _own_result(row)] for row in results.rows)]
    lines += _table(rows, width)
    for note in results.notes:
        lines += _wrap(note, width)
    lines += _reason_lines(results, width)
    return _join(lines)


def _join(lines: Sequence[str]) -> str:
    """Return the lines as a text without characters that control a terminal."""
    return "\n".join(map(reveal_invisible, lines))


def _seed_lines(results: SweepResults, width: int) -> list[str]:
    """Return the metrics of one config over its seeds."""
    rows = [["metric", "mean", "sd", "95 % interval of the mean", "seeds"]]
    metrics = results.rows[0].metrics
    for name in results.metric_names():
        if (summary := metrics.get(name)) is None:
            continue
        interval = ""
        if summary.low is not None and summary.high is not None:
            interval = f"{summary.low:.4g} to {summary.high:.4g}"
        deviation = "" if summary.sd is None else f"{summary.sd:.2g}"
        rows.append([name, f"{summary.mean:.4g}", deviation, interval, str(summary.n)])
    return [*(_table(rows, width) if len(rows) > 1 else []), *_reason_lines(results, width)]


def _reason_lines(results: SweepResults, width: int) -> list[str]:
    """Return why jobs have no result, one reason of several jobs once."""
    shared = set.intersection(*(set(job.words) for job in results.jobs)) if results.jobs else set()
    groups: dict[tuple[str, str], list[JobEntry]] = {}
    for job in results.jobs:
        if job.reason and job.state != "finished":
            groups.setdefault((job.state, job.reason), []).append(job)
    lines = []
    for (state, reason), jobs in groups.items():
        settings = " ".join(word for word in jobs[0].words if word not in shared)
        name = f"job {jobs[0].number} ({settings})"
        if len(jobs) > 1:
            name = f"jobs {', '.join(str(job.number) for job in jobs)}"
        lines += _wrap(f"{name} {state}: {reason}", width)
    return lines


def subject_names(comparison: Comparison) -> list[str]:
    """Return a short name for each subject: A, B, ... or, of many, 1, 2, ..."""
    count = len(comparison.subjects)
    if count <= len(LETTERS):
        return list(LETTERS[:count])
    return [str(number) for number in range(1, count + 1)]


def _setting_lines(comparison: Comparison, names: Sequence[str], width: int) -> list[str]:
    affecting = [row for row in comparison.settings if row.affects_result]
    neutral = [row.key for row in comparison.settings if not row.affects_result]
    if not affecting:
        lines = ["settings: the same"]
    else:
        rows = [["settings", *names]]
        for row in affecting:
            cells = [_cut(as_text(value), MAX_CELL) for value in row.values]
            rows.append([row.key, *cells])
        lines = _table(rows, width)
    if neutral:
        lines += _wrap(f"and without effect on the result: {', '.join(neutral)}", width)
    return lines


def _fact_lines(comparison: Comparison, names: Sequence[str], width: int) -> list[str]:
    """Return the facts in which the subjects agree in one paragraph, and a line a subject of each other one."""
    same = [row for row in comparison.facts if row.is_same and row.values[0] != NOT_RECORDED]
    shared = "; ".join(f"{row.name} {row.values[0]}" for row in same)
    lines = _wrap(f"the same: {shared}", width) if shared else []
    for row in comparison.facts:
        if not row.is_same:
            lines.append(f"{row.name} differs:")
            values = zip(names, row.values, strict=True)
            lines += [_cut(f"  {name}  {value}", width) for name, value in values]
    return lines


def _metric_lines(comparison: Comparison, names: Sequence[str], width: int) -> list[str]:
    if not comparison.metrics:
        return ["metrics: no run has any"]
    two = len(names) == 2
    rows = [["metric", *names, *(["B against A"] if two else [])]]
    for row in comparison.metrics:
        verdict = [_verdict_cell(row, 1)] if two else []
        rows.append([row.name, *map(summary_text, row.summaries), *verdict])
    lines = _table(rows, width)
    primary = comparison.primary()
    if primary is None:
        return lines
    for number, name in enumerate(names[1:], 1):
        if text := _sentence(primary, number):
            lines += _wrap(f"{primary.name}, {name} against {names[0]}: {text}", width)
    return lines


def _speed_lines(comparison: Comparison, names: Sequence[str], width: int) -> list[str]:
    if not comparison.speed:
        return []
    rows = [["speed", *names]]
    rows += [[row.name, *map(number_text, row.values)] for row in comparison.speed]
    return _table(rows, width)


def _many_subjects(comparison: Comparison, names: Sequence[str], width: int) -> list[str]:
    """Return a line a subject: the primary metric, or else the first one, and the settings that differ."""
    if not comparison.metrics:
        return ["metrics: no run has any"]
    row = comparison.primary() or comparison.metrics[0]
    settings = [setting for setting in comparison.settings if setting.affects_result]
    rows = [["", row.name, f"against {names[0]}", "settings"]]
    for number, name in enumerate(names):
        verdict = _verdict_cell(row, number) if number else ""
        words = [f"{setting.key}={as_text(setting.values[number])}" for setting in settings]
        rows.append([name, summary_text(row.summaries[number]), verdict, " ".join(words)])
    return [*_table(rows, width), "--json and --csv FILE have all metrics"]


def _verdict_cell(row: MetricRow, number: int) -> str:
    verdict = row.verdicts[number]
    if verdict is None:
        is_comparable = not row.reasons[number].startswith("not comparable")
        return "" if is_comparable else "not comparable"
    return verdict_text(verdict)


def _sentence(row: MetricRow, number: int) -> str:
    verdict = row.verdicts[number]
    return verdict.sentence if verdict else row.reasons[number]


def _own_result(row: SweepRow) -> str:
    summary = row.metrics.get(row.own_metric)
    return f"{row.own_metric} {summary_text(summary)}" if summary else ""


def _sweep_verdict(row: SweepRow) -> str:
    if row.is_best:
        return "best"
    return verdict_text(row.verdict) if row.verdict else row.reason


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict in a few words: the word, the difference, its interval, and how many more seeds would decide."""
    parts = [str(verdict.word)]
    if verdict.difference is not None:
        parts.append(f"{verdict.difference:+.3g}")
    if verdict.low is not None and verdict.high is not None and verdict.low < verdict.high:
        parts.append(f"({verdict.low:+.3g} to {verdict.high:+.3g})")
    if verdict.more_seeds is not None:
        parts.append(f"about {format_count(verdict.more_seeds, 'more seed')} would")
    return " ".join(parts)


def summary_text(summary: Summary | None) -> str:
    """Return a mean, and with several values the half of its 95 % interval and their number."""
    if summary is None or summary.mean is None:
        return ""
    if summary.half_width is None:
        return f"{summary.mean:.4g}"
    return f"{summary.mean:.4g} ± {summary.half_width:.2g} (n={summary.n})"


def _example_lines(examples: ExampleComparison, first: str, second: str, width: int) -> list[str]:
    total = examples.wins + examples.losses + examples.ties
    lines = [
        f"{examples.metric} of {format_count(total, 'example')}: {second} wins {examples.wins:,}, "
        f"loses {examples.losses:,}, ties {examples.ties:,}"
    ]
    for title, shown in (("wins", examples.largest_wins), ("loses", examples.largest_losses)):
        for example in shown:
            lines += [f"  {second} {title}: {example.scores[0]:.4g} to {example.scores[1]:.4g}"]
            lines += _example_texts(example, first, second, width)
    return lines


def _example_texts(example: ExampleDifference, first: str, second: str, width: int) -> list[str]:
    lines = []
    labels = ("input", "reference", first, second)
    texts = (example.input, example.reference, *example.outputs)
    for label, text in zip(labels, texts, strict=True):
        shown = " ".join(text[:SAMPLE_WIDTH].split()) or "(nothing)"
        lines.append(f"    {label:<10}{_cut(shown, max(20, width - 14))}")
    return lines


def _table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the rows as lines of aligned columns; what does not fit is cut."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True)]
        lines.append(_cut("  ".join(cells).rstrip(), width))
    return lines


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def number_text(value: float | None) -> str:
    """Return a speed or a total."""
    if value is None:
        return ""
    return f"{value:,.0f}" if 1000 <= abs(value) < LARGE else f"{value:.4g}"


def terminal_width() -> int:
    return max(60, min(140, shutil.get_terminal_size((100, 40)).columns))
