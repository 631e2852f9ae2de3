"""Key terms of a text: F1 over terms, 0 to 1, next to everything that looks like an identifier.

With model.arch=encoder, the default, the model tags each token as outside a term, its first token or a further one
(Ramshaw and Marcus 1995, cmp-lg/9505040). Any other model.arch generates the terms, separated by semicolons.
"""

import re
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.errors import UserError
from gptexp.tasks.answerer import Answerer
from gptexp.tasks.layout import EvalExample, Layout
from gptexp.tasks.metrics import UNDEFINED, Metric, jackknife
from gptexp.tasks.summarize import HEADER
from gptexp.tasks.term_tags import TagTerms, TermTags, split_terms
from gptexp.tasks.text_to_text import TextToText

# With an underscore, a dot or a capital inside, a call, or all capitals.
IDENTIFIER = re.compile(
    r"\b(?:\w+(?:[_.]\w+)+|_\w+|\w*[a-z]\w*[A-Z]\w*|[A-Z][A-Z\d_]+|[A-Za-z_]\w*\(\))"
)

EXPECTED = 2  # the last count of `_count_terms`


class TermF1(Metric):
    name = "f1"
    defined_for = MappingProxyType(
        dict.fromkeys(("f1", "precision", "recall"), "references with terms")
    )

    def score_all(self, outputs: list[str], examples: list[EvalExample]) -> dict[str, float]:
        counts = _count_terms(outputs, examples).sum(axis=0)
        if not counts[EXPECTED]:
            return dict.fromkeys(self.defined_for, UNDEFINED)
        return {name: _score_terms(counts, name) for name in self.defined_for}

    def contributions(
        self, outputs: list[str], examples: list[EvalExample]
    ) -> dict[str, list[float]]:
        counts = _count_terms(outputs, examples)
        if not counts[:, EXPECTED].any():
            return {}
        return {
            name: jackknife(counts, partial(_score_terms, name=name)) for name in self.defined_for
        }

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[str]]:
        texts = [_text_below_header(example.input) for example in examples]
        return {
            "everything that looks like an identifier": [
                "; ".join(dict.fromkeys(IDENTIFIER.findall(text))) for text in texts
            ]
        }


def _count_terms(outputs: list[str], examples: list[EvalExample]) -> NDArray:
    """Return [N, 3]: the right, the predicted and the expected terms of each example."""
    rows = []
    for output, example in zip(outputs, examples, strict=True):
        predicted, expected = set(split_terms(output)), set(split_terms(example.reference))
        rows.append((len(predicted & expected), len(predicted), len(expected)))
    return np.array(rows, np.int64).reshape(-1, 3)


def _score_terms(counts: NDArray, name: str) -> float:
    """Return the `f1`, `precision` or `recall` of counts of terms."""
    right, predicted, expected = counts.tolist()
    precision = right / max(1, predicted)
    recall = right / max(1, expected)
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    return {"f1": f1, "precision": precision, "recall": recall}[name]


class Extract(TextToText):
    fields = ("source", "terms")
    metrics = (TermF1(),)

    @classmethod
    def parts(
        cls, config: schema.TextToTextConfig, model: schema.ModelConfig
    ) -> tuple[Layout, Answerer]:
        if model.arch != "encoder":
            return super().parts(config, model)
        if config.num_beams > 1 or config.mbr_samples > 1:
            raise UserError(
                "task.num_beams and task.mbr_samples need generated answers: add model.arch=decoder"
            )
        return TermTags(model.context), TagTerms(model.context)


def _text_below_header(source: str) -> str:
    """Return a source without its first line, if that is the name and signature of what the text documents."""
    header, _, text = source.partition("\n")
    return text if text and HEADER.fullmatch(header) else source
