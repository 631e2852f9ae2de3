"""Summarization: a text, then its summary; ROUGE F1 in percent (Lin 2004) next to the beginning of the text."""

import re

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from gptexp.data.duplicates import WORD
from gptexp.tasks.entities import find_entities, words_of
from gptexp.tasks.task import TextToText


class Words(DefaultTokenizer):
    """The words of rouge_score, which knows the letters a to z only, and those in other letters as they are."""

    def tokenize(self, text: str) -> list[str]:
        tokens: list[str] = []
        for word in WORD.findall(text.lower()):
            tokens += super().tokenize(word) if word.isascii() else [word]
        return tokens


class Summarize(TextToText):
    headline = "rougeL"

    def score_all(self, outputs: list[str], examples: list[dict[str, str]]) -> dict[str, float]:
        return {"names": names_copied(outputs, examples)}

    def score_each(
        self, outputs: list[str], examples: list[dict[str, str]]
    ) -> dict[str, list[float]]:
        names = ("rouge1", "rouge2", "rougeL")
        scorer = RougeScorer(names, tokenizer=Words(use_stemmer=True))
        scores = [
            scorer.score(e["target"], output) for e, output in zip(examples, outputs, strict=True)
        ]
        return {name: [100 * score[name].fmeasure for score in scores] for name in names}

    def baselines(self, examples: list[dict[str, str]]) -> dict[str, list[str]]:
        texts = [" ".join(example["source"].split()) for example in examples]
        return {
            "first sentence of the text": [
                re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0] for text in texts
            ],
            "first 12 words of the text": [" ".join(text.split()[:12]) for text in texts],
        }


def names_copied(outputs: list[str], examples: list[dict[str, str]]) -> float:
    """Of the names in the references that stand in the texts, the share that the summaries have, 0 to 1."""
    found = wanted = 0
    for output, example in zip(outputs, examples, strict=True):
        names = words_of(example["source"]).intersection(find_entities(example["target"]))
        wanted += len(names)
        found += len(names & words_of(output))
    return found / max(1, wanted)
