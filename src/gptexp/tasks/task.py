"""A task is a layout, an answerer and metrics. A new task is a file here, a settings class and a YAML file in conf/."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from gptexp.config import schema
from gptexp.config.targets import build, import_target
from gptexp.data.token_store import TokenStore
from gptexp.errors import UserError
from gptexp.loss import LossCounts, LossSums
from gptexp.tasks.answerer import Answerer
from gptexp.tasks.layout import EvalExample, Layout
from gptexp.tasks.metrics import Metric
from gptexp.tasks.reference import Reference

Value = TypeVar("Value")


class Task:
    """A subclass is called with the settings of the task and of the model, and builds its layout and its answerer.

    Without metrics, only the loss is measured, and outputs are computed for the samples alone.
    """

    metrics: Sequence[Metric] = ()
    primary_metric: str = ""  # that a table of runs shows; "": the first metric, or the loss
    higher_is_better: bool = True  # of the primary metric
    loss_baseline: str = ""  # describes the baseline that `loss_metrics` reports

    def __init__(
        self,
        config: schema.TaskConfig,
        model: schema.ModelConfig,
        layout: Layout,
        answerer: Answerer,
    ) -> None:
        self.config, self.context = config, model.context
        self.layout, self.answerer = layout, answerer
        if not self.primary_metric and self.metrics:
            self.primary_metric = self.metrics[0].name
            self.higher_is_better = self.metrics[0].higher_is_better
        elif not self.primary_metric:
            self.primary_metric, self.higher_is_better = "loss", False
        self.metrics = (*self.metrics, *map(_build_metric, config.metrics))

    def use_reference(self, reference: Reference) -> None:
        """Take the weights that training starts from, for a task whose settings have `uses_reference`."""

    def loss_metrics(
        self, store: TokenStore, split: str, losses: LossSums, counts: LossCounts
    ) -> dict[str, float]:
        """Return the metrics that follow from the losses over a split, or over a part of it (task.test_tokens)."""
        return {"loss": float(losses.mean(counts))}

    def prepare_metrics(self, store: TokenStore, examples: list[EvalExample]) -> dict[str, float]:
        """Set up the metrics for these examples, and return figures about that setup."""
        return _merge(metric.prepare(store, examples) for metric in self.metrics)

    def score_each(self, outputs: list[Any], examples: list[EvalExample]) -> dict[str, list[float]]:
        """Return a value for each output, under the name of each metric whose result is their mean."""
        return _merge(metric.score_each(outputs, examples) for metric in self.metrics)

    def score_all(self, outputs: list[Any], examples: list[EvalExample]) -> dict[str, float]:
        """Return the metrics that are computed over all outputs together, also those that are UNDEFINED."""
        return _merge(metric.score_all(outputs, examples) for metric in self.metrics)

    def contributions(
        self, outputs: list[Any], examples: list[EvalExample]
    ) -> dict[str, list[float]]:
        """Return what each output contributes to the metrics of `score_all` that are made of such parts."""
        return _merge(metric.contributions(outputs, examples) for metric in self.metrics)

    def score(self, outputs: list[Any], examples: list[EvalExample]) -> dict[str, float]:
        """Return all metrics that are defined for these examples."""
        return _score(self.metrics, outputs, examples)

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[Any]]:
        """Return the outputs of naive methods that use no model, under a description of each method.

        By default they are those of the first metric.
        """
        return self.metrics[0].baselines(examples)

    def score_baselines(self, examples: list[EvalExample]) -> tuple[str, dict[str, float]]:
        """Return a description of the strongest baseline, and its metrics; "" if there is none.

        It is the strongest by the first metric. Another metric that has baselines is compared with its own strongest.
        """
        description, scores = _strongest(self.baselines(examples), self.metrics, examples)
        for metric in self.metrics[1:]:
            scores |= _strongest(metric.baselines(examples), [metric], examples)[1]
        return description, scores

    def describe_undefined(self, scores: Mapping[str, Sequence[float]], split: str) -> list[str]:
        """Return sentences about metrics that are not defined for some examples of a split, or for none.

        Args:
            scores: the values of each metric: one, or one for each example.
        """
        defined_for = {k: v for metric in self.metrics for k, v in metric.defined_for.items()}
        remarks = []
        for name, values in scores.items():
            left_out = sum(map(math.isnan, values))
            examples = defined_for.get(name, "examples where its score is a number")
            if left_out and left_out == len(values):
                remarks.append(
                    f"{name} is not shown: it is defined for {examples}, and the {split} split has none"
                )
            elif left_out:
                remarks.append(
                    f"{name} is defined for {examples}: it leaves out {left_out} of {len(values)} examples"
                )
        return remarks

    def sample(self, example: EvalExample, output: Any) -> dict[str, Any]:
        """Return the texts and media of an answer that a run keeps and shows."""
        return {"input": example.input, "reference": example.reference, "output": output}

    def remarks(
        self, metrics: dict[str, float], split: str, baseline: str, init: str | None
    ) -> list[str]:
        """Return sentences that a reader of the metrics should know.

        Args:
            baseline: a description of the baseline that the model is compared with; "": there is none.
            init: the weights that training started from; None: random ones.
        """
        return self.compare(metrics, split, baseline)

    def compare(self, metrics: dict[str, float], prefix: str, baseline: str) -> list[str]:
        """Return a sentence that compares the model with the baseline by the primary metric; none without a score."""
        name = f"{prefix}/{self.primary_metric}"
        model, naive = metrics.get(name), metrics.get(f"{prefix}/baseline/{self.primary_metric}")
        if model is None or naive is None:
            return []
        is_better = model > naive if self.higher_is_better else model < naive
        verdict = "better than" if is_better else "NOT better than"
        return [f"by {name} the model is {verdict} the baseline ({baseline})"]


def _build_metric(path: str) -> Metric:
    """Build a metric of `task.metrics`.

    Raises:
        UserError: there is no such class, or it is not a Metric.
    """
    metric = import_target(path)()
    if not isinstance(metric, Metric):
        raise UserError(f"task.metrics=[{path}]: is not a subclass of gptexp.tasks.metrics.Metric")
    return metric


def _strongest(
    baselines: dict[str, list[Any]], metrics: Sequence[Metric], examples: list[EvalExample]
) -> tuple[str, dict[str, float]]:
    """Return the description and the scores of the baseline that is best by the first metric."""
    scores = {name: _score(metrics, outputs, examples) for name, outputs in baselines.items()}
    if not scores:
        return "", {}
    first, sign = metrics[0].name, 1 if metrics[0].higher_is_better else -1
    best = max(scores, key=lambda name: sign * scores[name].get(first, 0.0))
    return best, scores[best]


def _score(
    metrics: Sequence[Metric], outputs: list[Any], examples: list[EvalExample]
) -> dict[str, float]:
    each = _merge(metric.score_each(outputs, examples) for metric in metrics)
    overall = _merge(metric.score_all(outputs, examples) for metric in metrics)
    return means(each) | drop_undefined(overall)


def _merge(parts: Iterable[dict[str, Value]]) -> dict[str, Value]:
    return {name: value for part in parts for name, value in part.items()}


def means(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean of the defined values under each name that has some."""
    defined = {name: [x for x in values if not math.isnan(x)] for name, values in scores.items()}
    return {name: sum(values) / len(values) for name, values in defined.items() if values}


def drop_undefined(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def make_task(config: schema.TaskConfig, model: schema.ModelConfig) -> Task:
    """Build the task that the settings name, for a model with these settings."""
    return build(config, model)
