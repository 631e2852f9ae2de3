"""Next-sentence prediction (Devlin et al. 2018): does the second text follow the first? Accuracy, 0 to 1."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from gptexp.data.corpora import Example
from gptexp.data.datasets.next_sentence import ELSEWHERE, FOLLOWS, NextSentenceDataset
from gptexp.data.datasets.windows import SequenceDataset
from gptexp.data.token_store import TokenizedExample, TokenStore
from gptexp.data.tokenizers import SEP, Tokenizer
from gptexp.errors import UserError
from gptexp.model import Transformer
from gptexp.tasks.task import Task

ANSWERS = {FOLLOWS: "next", ELSEWHERE: "elsewhere"}
BOUNDARY = re.compile(r"(?<=[.!?:])\s+|\n\s*\n")  # of sentences and paragraphs
SHORTEST = 20  # characters of either part


class Nsp(Task):
    fields = ("text",)
    headline = "accuracy"

    def settings(self) -> dict[str, Any]:
        return {"layout": "half sep half eos", "context": self.context}

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        return [self._pair(example.fields["text"], tokenizer) for example in examples]

    def _pair(self, text: str, tokenizer: Tokenizer) -> TokenizedExample | None:
        """A document cut between two sentences, as near to its middle as can be; None: it is too short."""
        middle = len(text) / 2
        cut = min(
            BOUNDARY.finditer(text), key=lambda found: abs(found.start() - middle), default=None
        )
        if cut is None or min(cut.start(), len(text) - cut.end()) < SHORTEST:
            return None
        return self._layout(text[: cut.start()], text[cut.end() :], tokenizer)

    def _layout(self, first: str, second: str, tokenizer: Tokenizer) -> TokenizedExample:
        """The end of the first part and the beginning of the second, each at most half of the context.

        So any two parts fit, and how much of one there is tells nothing of the other.
        """
        before, after = tokenizer.encode_batch([first, second])
        half = (self.context - 2) // 2
        given = [*before[-half:], tokenizer.sep]
        return TokenizedExample([*given, *after[:half], tokenizer.eos], prefix=len(given))

    def sequences(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return NextSentenceDataset(store, split, seed)

    def held_out(self, store: TokenStore, split: str, count: int) -> Iterator[dict[str, str]]:
        pairs, tokenizer = NextSentenceDataset(store, split, None), store.tokenizer
        for index in np.linspace(
            0, len(pairs) - 1, num=min(count or len(pairs), len(pairs)), dtype=np.int64
        ).tolist():
            first, second, label = pairs.pair(index, 0)
            texts = (tokenizer.decode(part.tolist()) for part in (first, second))
            yield {"source": f" {SEP} ".join(texts), "target": ANSWERS[label]}

    @torch.inference_mode()
    def answers(self, model: Transformer, tokenizer: Tokenizer, texts: list[str]) -> list[str]:
        """`next` or `elsewhere` for each `first <|sep|> second`."""
        found = []
        for text in texts:
            first, mark, second = text.partition(SEP)
            if not mark:
                raise UserError(
                    f"task={self.config.kind} compares two texts: give 'FIRST {SEP} SECOND'"
                )
            pair = self._layout(first.removesuffix(" "), second.removeprefix(" "), tokenizer)
            tokens, sizes = (
                torch.tensor(x, device=model.embedding.weight.device)
                for x in ([pair.tokens], [pair.prefix, len(pair.tokens)])
            )
            logits = model.classify(model(tokens), sizes[:1], sizes[1:])
            found.append(ANSWERS[int(logits.argmax())])
        return found

    def score_each(
        self, outputs: list[str], examples: list[dict[str, str]]
    ) -> dict[str, list[float]]:
        return {
            "accuracy": [
                float(output == e["target"]) for output, e in zip(outputs, examples, strict=True)
            ]
        }

    def baselines(self, examples: list[dict[str, str]]) -> dict[str, list[str]]:
        return {f"always '{answer}'": [answer] * len(examples) for answer in ANSWERS.values()}
