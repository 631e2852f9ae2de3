"""The scores of each held-out example and the loss of each held-out batch, as a run keeps them for comparisons.

Two runs of the same data and task are compared example by example: their ids agree, whatever their seeds and models.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from gptexp.data.duplicates import (
    connected_components,
    duplicate_pairs,
    minhash_signatures,
    near_duplicate_pairs,
)
from gptexp.tasks.layout import EvalExample, Layout
from gptexp.tasks.task import Task
from gptexp.training.evaluation import Evaluation

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
    ids = example_ids(answers.examples)
    groups = example_groups(answers.examples, ids, task.layout)
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


def example_ids(examples: list[EvalExample]) -> list[str]:
    """Return twelve hex digits for each example: a hash of its input and reference, and of its equals before it."""
    seen: Counter[bytes] = Counter()
    ids = []
    for example in examples:
        content = b"\0".join(map(_content, (example.input, example.reference)))
        key = content + b"\0%d" % seen[content]
        ids.append(hashlib.blake2b(key, digest_size=6).hexdigest())
        seen[content] += 1
    return ids


def example_groups(examples: list[EvalExample], ids: list[str], layout: Layout) -> list[str]:
    """Return for each example the id of the first one of its group: those with equal inputs, and near-duplicates.

    Pictures are compared byte by byte: equal captions do not make near-duplicates of two pictures.
    """
    inputs = (hashlib.blake2b(_content(e.input), digest_size=8).digest() for e in examples)
    pairs = [duplicate_pairs(np.frombuffer(b"".join(inputs), np.uint64))]
    if examples and layout.texts(examples[0].input):
        texts = ("\n".join(_texts(example, layout)) for example in examples)
        pairs.append(near_duplicate_pairs(minhash_signatures(texts)))
    labels = connected_components(len(examples), *pairs)
    return [ids[label] for label in labels.tolist()]


def _texts(example: EvalExample, layout: Layout) -> list[str]:
    texts = layout.texts(example.input)
    return [*texts, example.reference] if isinstance(example.reference, str) else texts


def _content(value: Any) -> bytes:
    """Return the bytes of a text, of an image or audio clip, or of the parts of an input with several."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if parts := getattr(value, "__dict__", None):
        return b"\0".join(_content(part) for part in parts.values())
    return str(value).encode("utf8", "surrogatepass")


def _or_null(value: float) -> float | None:
    """Return a score as JSON holds it: null where it is not defined."""
    return float(value) if math.isfinite(value) else None
