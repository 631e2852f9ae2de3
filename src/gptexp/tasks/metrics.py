"""Metrics of a task's outputs. A metric of your own is a subclass of ExampleMetric with a name and `score`."""

from abc import ABC, abstractmethod
from typing import Any

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics import BLEU, CHRF

from gptexp.data.duplicates import WORD
from gptexp.data.token_store import TokenStore
from gptexp.tasks.layout import EvalExample


class Metric:
    """Scores outputs. `name` is the value that stands for it where it is a task's primary metric."""

    name: str
    higher_is_better: bool = True

    def prepare(self, store: TokenStore, examples: list[EvalExample]) -> dict[str, float]:
        """Set up all that scoring needs besides the outputs, and return figures about that setup."""
        return {}

    def score_each(self, outputs: list[Any], examples: list[EvalExample]) -> dict[str, list[float]]:
        """Return one value for each output under the name of each metric whose result is their mean."""
        return {}

    def score_all(self, outputs: list[Any], examples: list[EvalExample]) -> dict[str, float]:
        """Return the metrics that are computed over all outputs together."""
        return {}

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[Any]]:
        """Return the outputs of naive methods that use no model, under a description of each method."""
        return {}


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

    def __init__(self, tokenize: str = "auto") -> None:
        self.tokenize = tokenize

    def score_all(self, outputs: list[str], examples: list[EvalExample]) -> dict[str, float]:
        references = [example.reference for example in examples]
        tokenize = self.tokenize
        if tokenize == "auto":
            with_spaces = sum(" " in reference.strip() for reference in references)
            tokenize = "13a" if with_spaces > len(references) / 4 else "char"
        return {"bleu": BLEU(tokenize=tokenize).corpus_score(outputs, [references]).score}


class Chrf(Metric):
    """chrF (Popović 2015), 0 to 100."""

    name = "chrf"

    def score_all(self, outputs: list[str], examples: list[EvalExample]) -> dict[str, float]:
        references = [example.reference for example in examples]
        return {"chrf": CHRF().corpus_score(outputs, [references]).score}


class Rouge(Metric):
    """ROUGE-1, ROUGE-2 and ROUGE-L F1 (Lin 2004), 0 to 100."""

    name = "rougeL"

    def score_each(self, outputs: list[str], examples: list[EvalExample]) -> dict[str, list[float]]:
        names = ("rouge1", "rouge2", "rougeL")
        scorer = RougeScorer(names, tokenizer=_RougeTokenizer(use_stemmer=True))
        scores = [
            scorer.score(example.reference, output)
            for output, example in zip(outputs, examples, strict=True)
        ]
        return {name: [100 * score[name].fmeasure for score in scores] for name in names}


class _RougeTokenizer(DefaultTokenizer):
    """The tokenizer of rouge_score, which knows the letters a to z only, and words of other letters unchanged."""

    def tokenize(self, text: str) -> list[str]:
        tokens: list[str] = []
        for word in WORD.findall(text.lower()):
            tokens += super().tokenize(word) if word.isascii() else [word]
        return tokens
