"""The samples of a run as a table whose rows compare over runs: equal examples have equal ids."""

from typing import Any

from gptexp.files import short_hash
from gptexp.runs.tables import SAMPLE_FIELDS


def sample_table(
    samples: list[dict[str, Any]], scores: list[dict[str, Any]]
) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and rows of a table: the id of the example, its texts, and its scores.

    Args:
        scores: rows as of scores.jsonl; [] in a run of an earlier version. The samples are the first of these examples.
    """
    examples = [row for row in scores if row["unit"] == "example"][: len(samples)]
    examples += [{}] * (len(samples) - len(examples))
    fields = list(samples[0]) if samples else list(SAMPLE_FIELDS)
    metrics = list(examples[0].get("scores", {})) if examples else []
    rows = []
    for sample, example in zip(samples, examples, strict=True):
        key = (
            example.get("id") or short_hash(f"{sample.get('input')} {sample.get('reference')}")[:12]
        )
        values = example.get("scores", {})
        rows.append([key, *(sample[field] for field in fields), *map(values.get, metrics)])
    return ["id", *fields, *metrics], rows
