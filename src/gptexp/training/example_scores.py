"""The scores of each held-out example and the loss of each held-out batch, as a run keeps them for comparisons.

Two runs of the same data and task are compared example by example: their ids agree, whatever their seeds and models.
"""

import math
from collections.abc import Iterator
from typing import Any

from gptexp.tasks.task import Task
from gptexp.training.evaluation import Evaluation
from gptexp.training.example_groups import example_ids

MAX_TEXT = 2000  # characters of an input, a reference or an output


def score_rows(evaluations: dict[str, Evaluation], task: Task) -> Iterator[dict[str, Any]]:
    """Yield the rows of scores.jsonl: the scored examples of each split, then the batches of its loss.

    {"split": "test", "unit": "example", "id": ..., "group": ..., "input": ..., "reference": ..., "output": ...,
     "scores": {"rougeL": 41.2, "names": null}}
    {"split": "test", "unit": "batch", "id": "0", "targets": 4058, "scores": {"loss": 2.28}}

    A metric over all outputs together has as score of an example what that contributes to it (`jackknife`). Examples of
    one group are near-duplicates, or have the same input. The split `all` repeats `test` and is left out.
    """
    for split, evaluation in evaluations.items():
        if split == "all":
            continue
        if task.metrics:
            yield from _example_rows(split, evaluation, task)
        if (losses := evaluation.losses) is not None:
            targets = losses.counts[:, 0].tolist()
            for number, (count, loss) in enumerate(zip(targets, losses.means(), strict=True)):
                scores = {"loss": _or_null(loss)}
                yield {
                    "split": split,
                    "unit": "batch",
                    "id": str(number),
                    "targets": count,
                    "scores": scores,
                }


def _example_rows(split: str, evaluation: Evaluation, task: Task) -> Iterator[dict[str, Any]]:
    answers = evaluation.answers
    scores = evaluation.scores | task.contributions(answers.outputs, answers.examples)
    ids, groups = example_ids(answers.examples), evaluation.groups
    for i, (example, output) in enumerate(zip(answers.examples, answers.outputs, strict=True)):
        yield {
            "split": split,
            "unit": "example",
            "id": ids[i],
            "group": groups[i],
            "input": str(example.input)[:MAX_TEXT],
            "reference": str(example.reference)[:MAX_TEXT],
            "output": str(output)[:MAX_TEXT],
            "scores": {name: _or_null(values[i]) for name, values in scores.items()},
        }


def _or_null(value: float) -> float | None:
    """Return a score as JSON holds it: null where it is not defined."""
    return float(value) if math.isfinite(value) else None
