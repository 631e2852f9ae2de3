"""Score a model on everything that is held out, after training and before it."""

from dataclasses import dataclass, field
from typing import Any

from gptexp.data.token_store import TokenStore
from gptexp.distributed.process_group import ProcessGroup
from gptexp.model import Transformer
from gptexp.runs.tables import is_companion
from gptexp.tasks.task import Task
from gptexp.training.evaluation import Evaluation, answer_examples, evaluate, score_answers


@dataclass
class Report:
    split: str = "test"  # "val" if there is no test split: its primary metric stands for the run
    metrics: dict[str, float] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def evaluate_held_out(
    model: Transformer,
    task: Task,
    store: TokenStore,
    precision: str,
    process_group: ProcessGroup,
    with_loss: bool = True,
) -> dict[str, Evaluation]:
    """Evaluate the test split (validation if there is no test), unseen sources, and `all`.

    `all` is the test split together with the test pairs that it leaves out as `unsupported`.
    """
    splits = [name for name in ("val", "test") if store.has(name)][-1:]
    splits += ["unseen"] if splits and store.has("unseen") else []
    evaluations = {
        split: evaluate(
            model, task, store, split, precision, process_group, with_loss, task.config.test_tokens
        )
        for split in splits
    }
    if task.metrics and "test" in splits and store.has("unsupported"):
        others = answer_examples(model, task, store, "unsupported", process_group)
        answers = evaluations["test"].answers + others
        evaluations["all"] = score_answers(task, store, answers, "all")
    return evaluations


def write_report(
    evaluations: dict[str, Evaluation], task: Task, before: dict[str, Any], init: str | None
) -> Report:
    """Return the metrics, samples and remarks of a run.

    Args:
        before: the result of `record_before`; {}: the model was not scored before training.
        init: the weights that training started from; None: random ones.
    """
    if not evaluations:
        return Report(remarks=["no data was held out, so nothing was scored"])
    split, first = next(iter(evaluations.items()))
    metrics = {k: v for evaluation in evaluations.values() for k, v in evaluation.metrics.items()}
    remarks = task.remarks(metrics, split, first.baseline, init)
    for name, evaluation in evaluations.items():
        if name != split:
            remarks += task.compare(evaluation.metrics, evaluation.prefix, evaluation.baseline)
        remarks += evaluation.remarks
    samples = first.samples(task)
    for sample, output in zip(samples, before.get("outputs", []), strict=False):
        sample["before"] = output
    return Report(split, metrics | before.get("metrics", {}), samples, remarks)


def record_before(evaluations: dict[str, Evaluation], task: Task) -> dict[str, Any]:
    """Return what a report shows of a model before training: its metrics, and its outputs where they are texts."""
    metrics = {}
    for evaluation in evaluations.values():
        for name, value in evaluation.metrics.items():
            split, _, leaf = name.rpartition("/")
            if not is_companion(name):
                metrics[f"{split}/before/{leaf}"] = value
    samples = [sample for first in [*evaluations.values()][:1] for sample in first.samples(task)]
    outputs = [sample["output"] for sample in samples]
    return {"metrics": metrics, "outputs": [text for text in outputs if isinstance(text, str)]}


def describe_scores(evaluations: dict[str, Evaluation], task: Task) -> str:
    """Return the primary metric of each evaluation beside the strongest baseline."""
    parts = []
    for evaluation in evaluations.values():
        name = f"{evaluation.prefix}/{task.primary_metric}"
        value = evaluation.metrics.get(name)
        baseline = evaluation.metrics.get(f"{evaluation.prefix}/baseline/{task.primary_metric}")
        if value is None:
            continue
        comparison = (
            "" if baseline is None else f" (baseline {baseline:.4g}: {evaluation.baseline})"
        )
        parts.append(f"{name} {value:.4g}{comparison}")
    return ", ".join(parts)
