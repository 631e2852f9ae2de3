"""Summarization: a text, then its summary; ROUGE F1 in percent (Lin 2004) next to the text's first sentence."""

from __future__ import annotations

import re

from rouge_score.rouge_scorer import RougeScorer

from gptexp.tasks.base import TextToText


class Summarize(TextToText):
    headline = "rougeL"
    baseline_name = "first sentence of the text"

    def score(self, outputs: list[str], examples: list[dict[str, str]]) -> dict[str, float]:
        names = ("rouge1", "rouge2", "rougeL")
        scorer = RougeScorer(names, use_stemmer=True)
        scores = [scorer.score(e["target"], output) for e, output in zip(examples, outputs, strict=True)]
        return {name: 100 * sum(score[name].fmeasure for score in scores) / len(scores) for name in names}

    def baseline(self, source: str) -> str:
        text = " ".join(source.split())
        return re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]
