"""Summarization: ROUGE F1 next to naive summaries, and how far the answers keep to their text and differ."""

import re
from collections import Counter
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora.summaries import WORD, content_words, support
from gptexp.data.tokenizers import Tokenizer
from gptexp.generation.generator import CandidateWeight
from gptexp.generation.prompt import Prompt
from gptexp.tasks.answerer import GenerateText
from gptexp.tasks.entities import find_entities, words_of
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.metrics import UNDEFINED, ExampleMetric, Metric, Rouge, jackknife
from gptexp.tasks.text_to_text import TextToText

# The first line of a source: Class.method(arguments) -> type of code, a dotted name alone, or the name of a package.
HEADER = re.compile(
    r"(?P<classes>(?:[\w+-]+\.)*)(?P<name>[\w+-]+)(?:\((?P<arguments>.*)\))?(?: -> .*)?"
)


class NameRecall(Metric):
    """The share of the names in a reference and its text that the output has too, 0 to 1.

    Small models invent names instead of copying them from the text.
    """

    name = "names"
    defined_for = MappingProxyType({"names": "references with names of their text"})

    def score_all(self, outputs: list[str], examples: list[EvalExample]) -> dict[str, float]:
        return {"names": _recall(self._count(outputs, examples).sum(axis=0))}

    def contributions(
        self, outputs: list[str], examples: list[EvalExample]
    ) -> dict[str, list[float]]:
        counts = self._count(outputs, examples)
        return {"names": jackknife(counts, _recall)} if counts[:, 1].any() else {}

    def _count(self, outputs: list[str], examples: list[EvalExample]) -> NDArray:
        """Return [N, 2]: the recalled names and all names of each example."""
        rows = []
        for output, example in zip(outputs, examples, strict=True):
            names = words_of(example.input).intersection(find_entities(example.reference))
            rows.append((len(names & words_of(output)), len(names)))
        return np.array(rows, np.int64).reshape(-1, 2)


def _recall(counts: NDArray) -> float:
    recalled, total = counts.tolist()
    return recalled / total if total else UNDEFINED


class Support(ExampleMetric):
    """The share of an output's content words that stand in its text, by their stems, 0 to 1."""

    name = "support"

    def score(self, output: str, example: EvalExample) -> float:
        return support(output, example.input)


class Repeated(Metric):
    """The share of the outputs that another text has got as well, 0 to 1: a small model repeats itself."""

    name = "repeated"
    higher_is_better = False

    def score_all(self, outputs: list[str], examples: list[EvalExample]) -> dict[str, float]:
        counts = Counter(" ".join(output.lower().split()) for output in outputs)
        repeated = sum(count for count in counts.values() if count > 1)
        return {"repeated": repeated / len(outputs) if outputs else UNDEFINED}


class GenerateSupported(GenerateText):
    """Of several candidates, prefer those whose words stand in the text: a small model invents the others."""

    def candidate_weight(self, tokenizer: Tokenizer) -> CandidateWeight:
        @lru_cache(maxsize=1)  # the candidates of one prompt follow each other
        def decode(prompt: Prompt) -> str:
            return tokenizer.decode(list(prompt.tokens))

        def weigh(prompt: Prompt, answer: list[int]) -> float:
            text = tokenizer.decode(answer)
            return support(text, decode(prompt)) if content_words(text) else 0.0

        return weigh


class Summarize(TextToText):
    answerer_class = GenerateSupported
    metrics = (Rouge(), NameRecall(), Support(), Repeated())

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[str]]:
        matches = [HEADER.fullmatch(example.input.partition("\n")[0]) for example in examples]
        headers = [match for match in matches if match]
        texts = [example.input for example in examples]
        has_headers = len(headers) == len(examples)
        if has_headers:
            texts = [text.partition("\n")[2] for text in texts]
        texts = [" ".join(text.split()) for text in texts]
        sentences = [re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0] for text in texts]
        baselines = {
            "first sentence of the text": sentences,
            "first 12 words of the text": [_first_words(text, 12) for text in texts],
        }
        if has_headers:
            names = [_split_names(header["name"]) for header in headers]
            full = [_split_names(header["classes"] + header["name"]) for header in headers]
            arguments = [_split_names(header["arguments"] or "") for header in headers]
            baselines |= {
                "words of the name": names,
                "words of class and name": full,
                "words of the name, first 4 words of the arguments": [
                    f"{name} {_first_words(words, 4)}".strip()
                    for name, words in zip(names, arguments, strict=True)
                ],
                "words of class and name, first 6 words of the text": [
                    f"{name} {_first_words(text, 6)}"
                    for name, text in zip(full, texts, strict=True)
                ],
            }
        return baselines


def _first_words(text: str, count: int) -> str:
    return " ".join(text.split()[:count])


def _split_names(names: str) -> str:
    return " ".join(WORD.findall(names)).lower()
