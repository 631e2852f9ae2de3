"""Terms of a text as a tag for each of its tokens, and tags as terms: the layout and the answerer of an encoder."""

import re
from collections.abc import Iterator
from typing import Any

import torch

from gptexp.data.corpora import Example
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.datasets.token_classification import TokenClassificationDataset
from gptexp.data.token_store import TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.model import SequenceLayout, Transformer
from gptexp.tasks.answerer import Answerer
from gptexp.tasks.layout import EvalExample, Layout, sample_examples

OUTSIDE, FIRST, INSIDE = range(3)


class TermTags(Layout):
    """A text, and a tag for each of its tokens."""

    fields = ("source", "terms")

    def __init__(self, context: int) -> None:
        self.context = context

    def fingerprint(self) -> dict[str, Any]:
        return {"layout": "source tags", "context": self.context}

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        return [
            self._sequence(example.fields["source"], example.fields["terms"], tokenizer)
            for example in examples
        ]

    def _sequence(self, source: str, terms: str, tokenizer: Tokenizer) -> TokenizedExample | None:
        tokens, offsets = tokenizer.encode_with_offsets(source)
        tags = [OUTSIDE] * len(tokens)
        for start, end in find_occurrences(source, split_terms(terms)):
            inside = [i for i, (left, right) in enumerate(offsets) if left < end and right > start]
            for i in inside:
                tags[i] = FIRST if i == inside[0] else INSIDE
        tokens, tags = tokens[: self.context], tags[: self.context]
        if not tokens:
            return None
        return TokenizedExample([*tokens, *tags], prefix=len(tokens), targets=len(tokens))

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return TokenClassificationDataset(store, split)

    def eval_examples(self, store: TokenStore, split: str, count: int) -> Iterator[EvalExample]:
        for example in sample_examples(store, split, count):
            yield EvalExample(example["source"], example["terms"])


class TagTerms(Answerer):
    """Tag the tokens of each text, and return its terms in their order, separated by semicolons."""

    def __init__(self, context: int) -> None:
        self.context = context

    @torch.inference_mode()
    def answer(self, model: Transformer, tokenizer: Tokenizer, inputs: list[str]) -> list[str]:
        encoded = [tokenizer.encode_with_offsets(text) for text in inputs]
        rows = [tokens[: self.context] or [tokenizer.eos] for tokens, _ in encoded]
        lengths = torch.tensor([len(row) for row in rows])
        padded = torch.tensor(
            [row + [tokenizer.pad] * (int(lengths.max()) - len(row)) for row in rows]
        )
        device = model.embedding.weight.device
        hidden = model(padded.to(device), SequenceLayout(lengths=lengths.to(device)))
        tags = model.head(hidden).argmax(dim=-1).tolist()
        return [
            "; ".join(dict.fromkeys(_widen(text, *span) for span in _spans(row, offsets)))
            for text, row, (_, offsets) in zip(inputs, tags, encoded, strict=True)
        ]


def find_occurrences(source: str, terms: list[str]) -> Iterator[tuple[int, int]]:
    """Yield the spans of terms that are whole words in a text, longer terms first and without overlap."""
    if terms:
        words = "|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True))
        for match in re.finditer(rf"(?<!\w)(?:{words})(?!\w)", source):
            yield match.span()


def split_terms(text: str) -> list[str]:
    return [term for part in text.split(";") if (term := part.strip())]


def _spans(tags: list[int], offsets: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the characters of each tagged term; the tags of padding, behind the last offset, do not count."""
    start = end = None
    for tag, (left, right) in zip(tags, offsets, strict=False):
        if tag != INSIDE and start is not None and end is not None:
            yield start, end
            start = None
        if tag == FIRST or (tag == INSIDE and start is None):
            start = left
        if tag != OUTSIDE:
            end = right
    if start is not None and end is not None:
        yield start, end


def _widen(text: str, start: int, end: int) -> str:
    """Return the characters of a span widened to whole words, without the punctuation of the sentence."""
    while start > 0 and re.match(r"\w\w", text[start - 1 : start + 1]):
        start -= 1
    while end < len(text) and re.match(r"\w\w", text[end - 1 : end + 1]):
        end += 1
    return text[start:end].strip().rstrip(".,:")
