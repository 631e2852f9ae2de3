"""Collect the data, code, software and device that runs were computed with, and their speed."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gptexp.comparing.run_records import RunRecords, split_of
from gptexp.files import short_hash
from gptexp.runs import timings

SPEEDS = {
    timings.TOKENS_PER_SECOND: "tokens/s",
    timings.STEP_MS: "ms/step",
    timings.TFLOPS: "TFLOP/s a device",
    timings.MFU: "MFU",
    timings.PEAK_MEMORY: "peak memory, GiB",
}
NOT_RECORDED = "not recorded"
TOTALS = {
    "parameters": "parameters",
    "steps": "steps",
    "tokens": "tokens",
    "flops": "FLOPs",
    "train_seconds": "training, s",
}


@dataclass(frozen=True)
class FactRow:
    """One fact about each subject."""

    name: str
    values: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        return len(set(self.values)) == 1


def fact_rows(subjects: Sequence[Sequence[RunRecords]]) -> list[FactRow]:
    """Return data, held-out texts, source, commit, library versions and device of each subject."""
    rows = [
        FactRow("data", _each(subjects, _describe_data)),
        FactRow("held-out data", _each(subjects, _describe_held_out)),
        FactRow("source", _each(subjects, _describe_source)),
        FactRow("commit", _each(subjects, _describe_commit)),
        FactRow("device", _each(subjects, _describe_device)),
        FactRow("precision", _each(subjects, lambda run: str(run.result.get("precision", "")))),
        FactRow("python", _each(subjects, lambda run: str(run.environment.get("python", "")))),
    ]
    versions = [run.environment.get("versions", {}) for runs in subjects for run in runs]
    for library in dict.fromkeys(name for each in versions for name in each):
        row = FactRow(library, _each(subjects, partial(_version, library)))
        if not row.is_same:
            rows.append(row)
    return rows


def _each(
    subjects: Sequence[Sequence[RunRecords]], describe: Callable[[RunRecords], str]
) -> tuple[str, ...]:
    """Return a text for each subject; the texts of its runs are joined where they differ."""
    return tuple(
        "; ".join(dict.fromkeys(describe(run) or NOT_RECORDED for run in runs)) for runs in subjects
    )


def _describe_data(run: RunRecords) -> str:
    fingerprint = run.data.get("fingerprint", "")
    sequences = run.data.get("splits", {}).get("train", {}).get("sequences")
    return f"{fingerprint} ({sequences:,} to train on)" if sequences else fingerprint


def _describe_held_out(run: RunRecords) -> str:
    split = split_of(run.primary_metric) if run.primary_metric else "test"
    texts = run.held_out_texts(split)
    if texts is None:
        return ""
    sequences = run.data.get("splits", {}).get(split, {}).get("sequences")
    return f"{texts} ({split}, {sequences:,} sequences)" if sequences else texts


def _describe_source(run: RunRecords) -> str:
    return str(run.environment.get("source") or "")


def _describe_commit(run: RunRecords) -> str:
    commit, changes = run.environment.get("commit"), run.environment.get("uncommitted")
    if not commit:
        return ""
    return f"{commit[:10]} with changes {short_hash(changes)[:8]}" if changes else commit[:10]


def _describe_device(run: RunRecords) -> str:
    device = run.environment.get("device") or {}
    if not isinstance(device, dict) or not device:
        return ""
    name = device.get("name") or device.get("type", "")
    threads = f", {device['threads']} threads" if "threads" in device else ""
    processes = run.environment.get("processes", 1)
    host = run.environment.get("machine", {}).get("host", "")
    text = f"{name}{threads}" + (f" x {processes}" if processes != 1 else "")
    return f"{text} on {host}" if host else text


def _version(library: str, run: RunRecords) -> str:
    return str(run.environment.get("versions", {}).get(library) or "not installed")


@dataclass(frozen=True)
class SpeedRow:
    """A measured speed or a total of each subject: the mean over its runs; None where no run has it."""

    name: str
    values: tuple[float | None, ...]


def speed_rows(subjects: Sequence[Sequence[RunRecords]]) -> list[SpeedRow]:
    """Return speeds (the median over the lines of metrics.jsonl) and totals of each subject."""
    rows = [
        SpeedRow(text, tuple(_mean([_median(run, name) for run in runs]) for runs in subjects))
        for name, text in SPEEDS.items()
    ]
    rows += [
        SpeedRow(text, tuple(_mean([_total(run, name) for run in runs]) for runs in subjects))
        for name, text in TOTALS.items()
    ]
    return [row for row in rows if any(value is not None for value in row.values)]


def _median(run: RunRecords, name: str) -> float | None:
    values = [row[name] for row in run.metric_rows if isinstance(row.get(name), int | float)]
    return statistics.median(values) if values else None


def _total(run: RunRecords, name: str) -> float | None:
    value = run.result.get(name)
    if value is None and run.metric_rows:
        value = run.metric_rows[-1].get("seconds" if name == "train_seconds" else name)
    return value if isinstance(value, int | float) else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def as_text(value: Any) -> str:
    """Return a value of a setting as it stands in a table."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
