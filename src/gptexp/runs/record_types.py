"""The types that readers of records rely on, so that a record of another program is refused by the name of its file."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

OBJECTS = {
    "before": ("metrics",),
    "data": ("account", "corpus", "files", "splits"),
    "environment": ("device", "machine", "slurm", "versions"),
    "result": ("metrics",),
}
NUMBERS = {"result": ("parameters", "steps", "tokens", "tokens_per_second", "train_seconds")}
TEXTS = {"result": ("primary_metric", "status")}


def check_record(name: str, values: Mapping[str, Any]) -> None:
    """Check the entries of a record NAME.json; those that are missing are as good as empty ones.

    Raises:
        ValueError: an entry has another type.
    """
    _check(values, OBJECTS.get(name, ()), dict, "an object")
    _check(values, NUMBERS.get(name, ()), (int, float), "a number")
    _check(values, TEXTS.get(name, ()), str, "a text")
    if "metrics" in OBJECTS.get(name, ()):
        metrics = values.get("metrics", {})
        _check(
            {f"metrics, {key}": value for key, value in metrics.items()},
            None,
            (int, float),
            "a number",
        )


def check_groups(values: Mapping[str, Any], groups: Iterable[str]) -> None:
    """Check that groups of settings of a config are groups.

    Raises:
        ValueError: one is a value.
    """
    _check(values, groups, dict, "a group of settings")


def check_score_row(row: Mapping[str, Any]) -> None:
    """Check a row of scores.jsonl.

    Raises:
        ValueError: an entry is missing or has another type.
    """
    entries = {name: row.get(name) for name in ("split", "unit", "id")}
    _check(entries, None, str, "a text")
    _check({"scores": row.get("scores")}, None, dict, "an object")
    scores = {f"scores, {key}": value for key, value in row["scores"].items()}
    _check(scores, None, (int, float, type(None)), "a number")


def _check(
    values: Mapping[str, Any],
    names: Iterable[str] | None,
    types: type | tuple[type, ...],
    accepted: str,
) -> None:
    """Check the type of those of the names that are there; None: of all entries."""
    for name in values if names is None else names:
        if name in values and not isinstance(values[name], types):
            shown = json.dumps(values[name], ensure_ascii=False, default=str)[:60]
            raise ValueError(f"{name}: {shown} is not {accepted}")
