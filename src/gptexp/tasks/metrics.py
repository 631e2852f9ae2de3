"""Metrics of a task's outputs. A metric of your own is a subclass of ExampleMetric with a name and `score`.

A score that is not defined for its example is UNDEFINED: means and tables leave it out, and the run says so.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.data.token_store import TokenStore
from gptexp.tasks.layout import EvalExample

UNDEFINED = math.nan
BLEU_ORDER = 4  # longest n-gram that BLEU counts


class Metric:
    """Scores outputs. `name` is the value that stands for it where it is a task's primary metric.

    `defined_for` says, under the name of a value that can be UNDEFINED, which examples it is defined for.
    """

    name: str
    higher_is_better: bool = True
    defined_for: Mapping[str, str] = MappingProxyType({})

    def prepare(self, store: TokenStore, examples: list[EvalExample]) -> dict[str, float]:
        """Set up all that scoring needs besides the outputs, and return figures about that setup."""
        return {}

    def score_each(self, outputs: list[Any], examples: list[EvalExample]) -> dict[str, list[float]]:
        """Return one value for each output under the name of each metric whose result is their mean."""
        return {}

    def score_all(self, outputs: list[Any], examples: list[EvalExample]) -> dict[str, float]:
        """Return the metrics that are computed over all outputs together."""
        return {}

    def contributions(
        self, outputs: list[Any], examples: list[EvalExample]
    ) -> dict[str, list[float]]:
        """Return what each output contributes to the metrics of `score_all`, for tests that pair two models' examples.

        A metric has none by default. See `jackknife`.
        """
        return {}

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[Any]]:
        """Return the outputs of naive methods that use no model, under a description of each method."""
        return {}


def jackknife(counts: NDArray, score: Callable[[NDArray], float]) -> list[float]:
    """Return the jackknife's pseudo-values of a metric over all outputs together (Tukey 1958), one for each output.

    That is n * metric - (n - 1) * metric without the output. Their mean is the metric, but for its bias, and their
    differences between two models can be tested like those of scores.

    Args:
        counts: [N, K] of each output; the metric is a function of their sums [K].
    """
    total, count = counts.sum(axis=0), len(counts)
    together = score(total)
    if count < 2:
        return [together] * count
    return [count * together - (count - 1) * score(total - row) for row in counts]


def _sacrebleu_contributions(
    metric: Any, outputs: list[str], examples: list[EvalExample]
) -> list[float]:
    references = [example.reference for example in examples]
    counts = np.array(metric._extract_corpus_statistics(outputs, [references]))
    return jackknife(counts, lambda total: metric._compute_score_from_stats(total.tolist()).score)


class ExampleMetric(Metric, ABC):
    """A metric that is the mean of a score of each output."""

    @abstractmethod
    def score(self, output: Any, example: EvalExample) -> float:
        """Score one output."""

    def score_each(self, outputs: list[Any], examples: list[EvalExample]) -> dict[str, list[float]]:
        scores = [self.score(*pair) for pair in zip(outputs, examples, strict=True)]
        return {self.name: scores}


class ExactMatch(ExampleMetric):
    """The fraction of outputs that equal their reference, whitespace around them aside."""

    def __init__(self, name: str = "exact_match") -> None:
        self.name = name

    def score(self, output: str, example: EvalExample) -> float:
        return float(output.strip() == example.reference.strip())


class Bleu(Metric):
    """BLEU (Papineni et al. 2002), 0 to 100.

    Args:
        tokenize: a tokenizer of sacrebleu; "auto" splits languages that are written without spaces into characters,
            because a sentence would count as one word.
    """

    name = "bleu"
    defined_for = MappingProxyType({"bleu": "references of at least four words"})

    def __init__(self, tokenize: str = "auto") -> None:
        self.tokenize = tokenize

    def score_all(self, outputs: list[str], examples: list[EvalExample]) -> dict[str, float]:
        references = [example.reference for example in examples]
        bleu = self._scorer(references)
        return {"bleu": bleu.corpus_score(outputs, [references]).score if bleu else UNDEFINED}

    def contributions(
        self, outputs: list[str], examples: list[EvalExample]
    ) -> dict[str, list[float]]:
        bleu = self._scorer([example.reference for example in examples])
        return {"bleu": _sacrebleu_contributions(bleu, outputs, examples)} if bleu else {}

    def _scorer(self, references: list[str]) -> Any:
        """Return the scorer of sacrebleu; None where BLEU is not defined."""
        from sacrebleu.metrics import BLEU

        tokenize = self.tokenize
        if tokenize == "auto":
            with_spaces = sum(" " in reference.strip() for reference in references)
            tokenize = "13a" if with_spaces > len(references) / 4 else "char"
        bleu = BLEU(tokenize=tokenize)
        words = (len(bleu.tokenizer(reference).split()) for reference in references)
        return bleu if max(words, default=0) >= BLEU_ORDER else None  # a perfect output scores 0


class Chrf(Metric):
    """chrF (Popović 2015), 0 to 100."""

    name = "chrf"
    defined_for = MappingProxyType({"chrf": "references that are not empty"})

    def score_all(self, outputs: list[str], examples: list[EvalExample]) -> dict[str, float]:
        from sacrebleu.metrics import CHRF

        references = [example.reference for example in examples]
        if not any(map(str.strip, references)):
            return {"chrf": UNDEFINED}
        return {"chrf": CHRF().corpus_score(outputs, [references]).score}

    def contributions(
        self, outputs: list[str], examples: list[EvalExample]
    ) -> dict[str, list[float]]:
        from sacrebleu.metrics import CHRF

        if not any(example.reference.strip() for example in examples):
            return {}
        return {"chrf": _sacrebleu_contributions(CHRF(), outputs, examples)}


class Rouge(Metric):
    """ROUGE-1, ROUGE-2 and ROUGE-L F1 (Lin 2004), 0 to 100."""

    name = "rougeL"
    min_words: Mapping[str, int] = MappingProxyType({"rouge1": 1, "rouge2": 2, "rougeL": 1})
    defined_for = MappingProxyType(
        {
            "rouge1": "references with words",
            "rouge2": "references of at least two words",
            "rougeL": "references with words",
        }
    )

    def score_each(self, outputs: list[str], examples: list[EvalExample]) -> dict[str, list[float]]:
        from gptexp.tasks.rouge import RougeScorer

        scorer = RougeScorer(list(self.min_words))
        scores: dict[str, list[float]] = {name: [] for name in self.min_words}
        for output, example in zip(outputs, examples, strict=True):
            words = scorer.count_words(example.reference)
            for name, score in scorer.score(example.reference, output).items():
                is_defined = words >= self.min_words[name]
                scores[name].append(100 * score.fmeasure if is_defined else UNDEFINED)
        return scores
