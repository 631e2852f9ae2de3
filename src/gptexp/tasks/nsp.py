"""Next-sentence prediction (Devlin et al. 2018): does the second text follow the first? Accuracy, 0 to 1."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from gptexp.config import schema
from gptexp.data.corpora import Example
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.datasets.next_sentence import NEXT, NOT_NEXT, NextSentenceDataset
from gptexp.data.token_store import Cut, TokenizedExample, TokenStore
from gptexp.data.tokenizers import SEP, Tokenizer
from gptexp.errors import UserError
from gptexp.model import Transformer
from gptexp.tasks.answerer import Answerer
from gptexp.tasks.layout import EvalExample, Layout, cut_beyond
from gptexp.tasks.metrics import ExactMatch
from gptexp.tasks.task import Task

ANSWERS = {NEXT: "next", NOT_NEXT: "elsewhere"}
BOUNDARY = re.compile(r"(?<=[.!?:])\s+|\n\s*\n")  # of sentences and paragraphs
MIN_CHARACTERS = 20  # of either part
MIN_CONTEXT = 4


class SentencePair(Layout):
    """The two halves of a document: first <sep> second <eos>."""

    fields = ("text",)

    def __init__(self, context: int) -> None:
        if context < MIN_CONTEXT:
            raise UserError(
                f"model.context={context}: must be at least {MIN_CONTEXT}, for a token of each text, a separator "
                f"and an end"
            )
        self.context = context

    def fingerprint(self) -> dict[str, Any]:
        return {"layout": "half sep half eos", "context": self.context}

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        return [self._split(example, tokenizer) for example in examples]

    def _split(self, example: Example, tokenizer: Tokenizer) -> TokenizedExample | None:
        """Cut a document at the boundary of sentences that is nearest to its middle; None: it is too short."""
        text = example.fields["text"]
        middle = len(text) / 2
        cut = min(
            BOUNDARY.finditer(text), key=lambda match: abs(match.start() - middle), default=None
        )
        if cut is None or min(cut.start(), len(text) - cut.end()) < MIN_CHARACTERS:
            example.leave_out(f"not two sentences of {MIN_CHARACTERS} characters", text)
            return None
        return self.pair(text[: cut.start()], text[cut.end() :], tokenizer)

    def pair(self, first: str, second: str, tokenizer: Tokenizer) -> TokenizedExample:
        """Join the end of the first text and the beginning of the second, each at most half of the context.

        So any two texts fit, and the length of one says nothing about the other.
        """
        before, after = tokenizer.encode_batch([first, second])
        half = (self.context - 2) // 2
        prefix = [*before[-half:], tokenizer.sep]
        setting = f"model.context={self.context} leaves {half} tokens for each half"
        return TokenizedExample(
            [*prefix, *after[:half], tokenizer.eos],
            prefix=len(prefix),
            cuts=(
                *cut_beyond(half, len(before), "first half", setting),
                *cut_beyond(half, len(after), "second half", setting),
            ),
        )

    def label_name(self, label: int) -> str:
        return ANSWERS[label]

    def texts(self, input: str) -> list[str]:
        return list(split_pair(input))

    def prompt_cuts(self, input: str, tokenizer: Tokenizer) -> tuple[Cut, ...]:
        return self.pair(*split_pair(input), tokenizer).cuts

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return NextSentenceDataset(store, split, seed)

    def eval_examples(self, store: TokenStore, split: str, count: int) -> Iterator[EvalExample]:
        pairs, tokenizer = NextSentenceDataset(store, split, None), store.tokenizer
        count = min(count or len(pairs), len(pairs))
        for index in np.linspace(0, len(pairs) - 1, num=count, dtype=np.int64).tolist():
            first, second, label = pairs.pair(index, 0)
            texts = (tokenizer.decode(part.tolist()) for part in (first, second))
            yield EvalExample(f" {SEP} ".join(texts), ANSWERS[label])


def split_pair(text: str) -> tuple[str, str]:
    """Split `FIRST <|sep|> SECOND` into its two texts."""
    first, _, second = text.partition(SEP)
    return first.removesuffix(" "), second.removeprefix(" ")


class ClassifyPairs(Answerer):
    """Answer `next` or `elsewhere` to each `FIRST <|sep|> SECOND`."""

    def __init__(self, layout: SentencePair, kind: str) -> None:
        self.layout, self.kind = layout, kind

    @torch.inference_mode()
    def answer(self, model: Transformer, tokenizer: Tokenizer, inputs: list[str]) -> list[str]:
        outputs, device = [], model.embedding.weight.device
        for text in inputs:
            if SEP not in text:
                raise UserError(f"task={self.kind} compares two texts: give 'FIRST {SEP} SECOND'")
            pair = self.layout.pair(*split_pair(text), tokenizer)
            tokens = torch.tensor([pair.tokens], device=device)
            sizes = torch.tensor([pair.prefix, len(pair.tokens)], device=device)
            logits = model.classify(model(tokens), sizes[:1], sizes[1:])
            outputs.append(ANSWERS[int(logits.argmax())])
        return outputs


class Nsp(Task):
    metrics = (ExactMatch("accuracy"),)

    def __init__(
        self,
        config: schema.TaskConfig,
        model: schema.ModelConfig,
        layout: SentencePair | None = None,
    ) -> None:
        layout = layout or SentencePair(model.context)
        super().__init__(config, model, layout, ClassifyPairs(layout, config.kind))

    def baselines(self, examples: list[EvalExample]) -> dict[str, list[str]]:
        return {f"always '{answer}'": [answer] * len(examples) for answer in ANSWERS.values()}
