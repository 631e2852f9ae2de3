"""Causal language modelling (Radford et al. 2018): every token from those before it, over windows of a stream.

A share of the documents can be told with their first sentence last, after a separator: what is learned then is to
summarize as well (Zhang et al. 2020, PEGASUS, arXiv 1912.08777, where the sentences are chosen by their overlap). In
a share of these the names are exchanged for those of other documents, so that copying is learned, and not the names.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from gptexp.config import schema
from gptexp.data.corpora import Example
from gptexp.data.datasets.windows import SequenceDataset, Windows
from gptexp.data.token_store import TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.generation.prompt import Prompt
from gptexp.model.loss import LossCounts, LossSums
from gptexp.sampling import Sampling
from gptexp.tasks.entities import exchanged, find_entities
from gptexp.tasks.task import Task

LEAD = re.compile(r"(?P<sentence>.{10,300}?[.!?])\s+(?P<rest>.*)", re.S)
SHORTEST = 20  # words of the rest


class Pretrain(Task):
    fields = ("text",)
    stream = True
    answers_are_scored = False
    continues = True
    sampling = Sampling(temperature=0.8)
    headline = "bits_per_byte"
    higher_is_better = False
    baseline_name = "unigram model"
    config: schema.PretrainConfig

    @property
    def lead_last_fraction(self) -> float:
        return self.config.lead_last_fraction

    def settings(self) -> dict[str, Any]:
        gaps = (
            {"gap_sentences": self.lead_last_fraction, "context": self.context}
            if self.lead_last_fraction
            else {}
        )
        renamed = (
            {"renamed": self.config.renamed}
            if self.lead_last_fraction and self.config.renamed
            else {}
        )
        return {"layout": "text eos"} | gaps | renamed

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        texts = tokenizer.encode_batch([example.fields["text"] for example in examples])
        rows = [
            [*text, tokenizer.eos] if example.ends_document else text
            for text, example in zip(texts, examples, strict=True)
        ]
        others = self._names(examples)
        for number, example in enumerate(examples):
            if (
                example.split == "train"
                and example.ends_document
                and (gap := self._gap(example.fields["text"], others))
            ):
                sentence, rest = tokenizer.encode_batch(list(gap))
                room = max(1, self.context - len(sentence) - 2)
                left = [*rest[room:], tokenizer.eos] if rest[room:] else []
                rows[number] = [*rest[:room], tokenizer.sep, *sentence, tokenizer.eos, *left]
        return [TokenizedExample(row, targets=len(row)) for row in rows]

    def _names(self, examples: list[Example]) -> list[str]:
        if not (self.lead_last_fraction and self.config.renamed):
            return []
        trained = (example.fields["text"] for example in examples if example.split == "train")
        return list(dict.fromkeys(name for text in trained for name in find_entities(text)))

    def _gap(self, text: str, others: list[str]) -> tuple[str, str] | None:
        """A document's first sentence and the rest, for the share of the documents that is told so; else None."""
        found = LEAD.fullmatch(text) if _drawn(text) < self.lead_last_fraction else None
        if found is None or len(found["rest"].split()) < SHORTEST:
            return None
        sentence, rest = " ".join(found["sentence"].split()), found["rest"]
        return (
            exchanged(sentence, rest, others, text)
            if _drawn(text, b"names") < self.config.renamed
            else (sentence, rest)
        )

    def sequences(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return Windows(store, split, self.context, seed, self.config.document_mask)

    @property
    def max_new_tokens(self) -> int:
        return min(self.config.max_new_tokens, self.context // 2)

    def prompt(self, text: str, tokenizer: Tokenizer) -> Prompt:
        return Prompt(tuple(tokenizer.encode(text) or [tokenizer.eos]))

    def held_out(self, store: TokenStore, split: str, count: int) -> Iterator[dict[str, str]]:
        """Beginnings from evenly spaced places, with how the text goes on."""
        tokens = store.tokens(split)
        given = min(self.context - self.max_new_tokens, 32)
        last = max(1, len(tokens) - given - self.max_new_tokens)
        for start in np.linspace(0, last - 1, num=count or 1, dtype=int):
            middle, end = start + given, start + given + self.max_new_tokens
            yield {
                "source": store.tokenizer.decode(tokens[start:middle].tolist()),
                "target": store.tokenizer.decode(tokens[middle:end].tolist()),
            }

    def loss_metrics(
        self, store: TokenStore, split: str, losses: LossSums, counts: LossCounts
    ) -> dict[str, float]:
        loss, targets = float(losses.targets), counts.targets
        sizes = store.meta["splits"][split]
        unigram = unigram_loss(store, split)
        # A token that stands for what the vocabulary lacks is no compression: its text is charged in full.
        spelled = 8 * sizes["unknown_bytes"]
        return {
            "loss": loss / targets,
            "perplexity": math.exp(min(loss / targets, 700.0)),
            "bits_per_byte": (loss / math.log(2) + spelled) / sizes["bytes"],
            "baseline/loss": unigram / targets,
            "baseline/perplexity": math.exp(unigram / targets),
            "baseline/bits_per_byte": (unigram / math.log(2) + spelled) / sizes["bytes"],
        }


def _drawn(text: str, purpose: bytes = b"") -> float:
    """A number from 0 to 1 that a text has, another for each purpose."""
    return (
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=purpose).digest())
        / 2**64
    )


def unigram_loss(store: TokenStore, split: str) -> float:
    """Nats that add-one smoothed token frequencies of the training split need for a held-out split."""
    vocabulary = store.meta["vocab_size"]
    seen = _counts(store, "train", vocabulary) + 1
    wanted = _counts(store, split, vocabulary)
    wanted[int(store.tokens(split)[0])] -= 1  # the first token is given
    return float(-(wanted * np.log(seen / seen.sum())).sum())


def _counts(store: TokenStore, split: str, vocabulary: int) -> np.ndarray:
    tokens = store.tokens(split)
    total = np.zeros(vocabulary, np.int64)
    for start in range(0, len(tokens), 1 << 22):
        total += np.bincount(tokens[start : start + (1 << 22)], minlength=vocabulary)
    return total
