"""Summarization: ROUGE F1 next to the beginning of the text, and the recall of names such as read_csv."""

import re
from types import MappingProxyType

from gptexp.tasks.entities import find_entities, words_of
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.metrics import UNDEFINED, Metric, Rouge
from gptexp.tasks.text_to_text import TextToText


class NameRecall(Metric):
    """The share of the names in a reference and its text that the output has too, 0 to 1.

    Small models invent names instead of copying them from the text.
    """

    name = "names"
    defined_for = MappingProxyType({"names": "references with names of their text"})

    def score_all(self, outputs: list[str], examples: list[EvalExample]) -> dict[str, float]:
        recalled = total = 0
        for output, example in zip(outputs, examples, strict=True):
            names = words_of(example.input).intersection(find_entities(example.reference))
            total += len(names)
            recalled += len(names & words_of(output))
        return {"names": recalled / total if total else UNDEFINED}


class Summarize(TextToText):
    metrics = (Rouge(), NameRecall())

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[str]]:
        texts = [" ".join(example.input.split()) for example in examples]
        return {
            "first sentence of the text": [
                re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0] for text in texts
            ],
            "first 12 words of the text": [" ".join(text.split()[:12]) for text in texts],
        }
