"""Key terms of a text, for mining documents; F1 over terms, 0 to 1, next to all that looks like an identifier.

By default an encoder tags each token as outside, first or further token of a term (Ramshaw and Marcus 1995, cmp-lg
9505040). With any other model.arch the terms are generated, separated by semicolons.
"""

import re
from collections.abc import Iterator
from typing import Any

import torch

from gptexp.config import schema
from gptexp.data.corpora import Example
from gptexp.data.datasets.windows import SequenceDataset, TokenClassificationDataset
from gptexp.data.token_store import TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.model import SequenceLayout, Transformer
from gptexp.tasks.task import Task, TextToText

OUTSIDE, FIRST, FURTHER = range(3)
# What has an underscore, a dot or a capital inside, calls something, or is all capitals.
IDENTIFIER = re.compile(
    r"\b(?:\w+(?:[_.]\w+)+|_\w+|\w*[a-z]\w*[A-Z]\w*|[A-Z][A-Z\d_]+|[A-Za-z_]\w*\(\))"
)


class Extract(TextToText):
    fields = ("source", "terms")
    headline = "f1"

    @classmethod
    def on(cls, model: schema.ModelConfig) -> type[Task]:
        return ExtractByTags if model.arch == "encoder" else cls

    def score_all(self, outputs: list[str], examples: list[dict[str, str]]) -> dict[str, float]:
        said, wanted = (
            [set(_terms(text)) for text in texts]
            for texts in (outputs, [e["target"] for e in examples])
        )
        right = sum(len(ours & theirs) for ours, theirs in zip(said, wanted, strict=True))
        precision = right / max(1, sum(map(len, said)))
        recall = right / max(1, sum(map(len, wanted)))
        return {
            "f1": 2 * precision * recall / max(1e-9, precision + recall),
            "precision": precision,
            "recall": recall,
        }

    def baselines(self, examples: list[dict[str, str]]) -> dict[str, list[str]]:
        said = [
            "; ".join(dict.fromkeys(IDENTIFIER.findall(example["source"]))) for example in examples
        ]
        return {"whatever looks like an identifier": said}


class ExtractByTags(Extract):
    def __init__(self, config: schema.ExtractConfig, context: int) -> None:
        Task.__init__(self, config, context)  # without room for an answer: nothing is generated
        if config.num_beams > 1 or config.mbr_samples > 1:
            raise UserError(
                "task.num_beams and task.mbr_samples need an answer that is generated: model.arch=decoder"
            )

    def settings(self) -> dict[str, Any]:
        return {"layout": "source tags", "context": self.context}

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        return [
            self._tagged(example.fields["source"], example.fields["terms"], tokenizer)
            for example in examples
        ]

    def _tagged(self, source: str, terms: str, tokenizer: Tokenizer) -> TokenizedExample | None:
        tokens, places = tokenizer.encode_with_offsets(source)
        tags = [OUTSIDE] * len(tokens)
        for start, end in occurrences(source, _terms(terms)):
            inside = [i for i, (left, right) in enumerate(places) if left < end and right > start]
            for i in inside:
                tags[i] = FIRST if i == inside[0] else FURTHER
        tokens, tags = tokens[: self.context], tags[: self.context]
        return (
            TokenizedExample([*tokens, *tags], prefix=len(tokens), targets=len(tokens))
            if tokens
            else None
        )

    def sequences(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return TokenClassificationDataset(store, split)

    @torch.inference_mode()
    def answers(self, model: Transformer, tokenizer: Tokenizer, texts: list[str]) -> list[str]:
        """The terms of each text in their order, separated by semicolons."""
        encoded = [tokenizer.encode_with_offsets(text) for text in texts]
        rows = [tokens[: self.context] or [tokenizer.eos] for tokens, _ in encoded]
        lengths = torch.tensor([len(row) for row in rows])
        padded = torch.tensor(
            [row + [tokenizer.pad] * (int(lengths.max()) - len(row)) for row in rows]
        )
        device = model.embedding.weight.device
        tags = (
            model.head(model(padded.to(device), SequenceLayout(lengths=lengths.to(device))))
            .argmax(dim=-1)
            .tolist()
        )
        spans = (
            _spans(row[: len(places)], places)
            for row, (_, places) in zip(tags, encoded, strict=True)
        )
        return [
            "; ".join(dict.fromkeys(_whole_words(text, *span) for span in found))
            for text, found in zip(texts, spans, strict=True)
        ]


def occurrences(source: str, terms: list[str]) -> Iterator[tuple[int, int]]:
    """Where the terms stand in a text as whole words, longer ones first and without overlap."""
    if terms:
        words = "|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True))
        for found in re.finditer(rf"(?<!\w)(?:{words})(?!\w)", source):
            yield found.span()


def _spans(tags: list[int], places: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    start = end = None
    for tag, (left, right) in zip(tags, places, strict=False):
        if tag != FURTHER and start is not None and end is not None:
            yield start, end
            start = None
        if tag == FIRST or (tag == FURTHER and start is None):
            start = left
        if tag != OUTSIDE:
            end = right
    if start is not None and end is not None:
        yield start, end


def _whole_words(text: str, start: int, end: int) -> str:
    """The characters of a span, widened to whole words, without the punctuation of the sentence."""
    while start > 0 and re.match(r"\w\w", text[start - 1 : start + 1]):
        start -= 1
    while end < len(text) and re.match(r"\w\w", text[end - 1 : end + 1]):
        end += 1
    return text[start:end].strip().rstrip(".,:")


def _terms(text: str) -> list[str]:
    return [term for part in text.split(";") if (term := part.strip())]
