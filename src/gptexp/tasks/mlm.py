"""Masked language modelling (Devlin et al. 2018): predict masked tokens from both sides, over windows of a stream."""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch

from gptexp.config import schema
from gptexp.data.batch import IGNORE
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.datasets.masked_lm import MaskedLMDataset
from gptexp.data.datasets.windows import TokenWindows
from gptexp.data.token_store import Cut, TokenStore
from gptexp.data.tokenizers import MASK, Tokenizer
from gptexp.loss import LossCounts, LossSums
from gptexp.model import Transformer
from gptexp.tasks.answerer import Answerer
from gptexp.tasks.layout import EvalExample, cut_beyond
from gptexp.tasks.pretrain import TextStream
from gptexp.tasks.task import Task
from gptexp.tasks.unigram import unigram_loss

SAMPLE_TOKENS = 48  # of a window, in a sample


class MaskedStream(TextStream):
    """Windows of a stream of documents, with some of their tokens masked."""

    predicts_next = False

    def __init__(self, context: int, config: schema.MaskedLMConfig) -> None:
        super().__init__(context, max_new_tokens=0)
        self.config = config

    def texts(self, input: str) -> list[str]:
        return input.split(MASK)

    def prompt_cuts(self, input: str, tokenizer: Tokenizer) -> tuple[Cut, ...]:
        length = len(masked_tokens(input, tokenizer))
        return cut_beyond(self.context, length, "text", f"model.context={self.context}")

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        windows = TokenWindows(store, split, self.context, seed, document_mask=False)
        return MaskedLMDataset(windows, store.tokenizer, self.config, seed)

    def eval_examples(self, store: TokenStore, split: str, count: int) -> Iterator[EvalExample]:
        """Yield pieces of evenly spaced windows, each of one document, with masks and with the tokens behind them."""
        dataset, tokenizer = self.dataset(store, split, None), store.tokenizer
        count = min(count, len(dataset))
        for index in np.linspace(0, len(dataset) - 1, num=count, dtype=np.int64):
            batch = dataset.batch(index[None], 0, index[None])
            masked, targets = batch.tokens[0, :SAMPLE_TOKENS], batch.targets[0, :SAMPLE_TOKENS]
            complete = torch.where(targets == IGNORE, masked, targets)
            start, end = _longest_document(complete.tolist(), tokenizer.eos)
            texts = (
                tokenizer.backend.decode(row[start:end].tolist(), skip_special_tokens=False)
                for row in (masked, complete)
            )
            yield EvalExample(*texts)


def _longest_document(tokens: list[int], eos: int) -> tuple[int, int]:
    """Return the bounds of the longest piece between two end-of-text tokens."""
    ends = [-1, *(i for i, token in enumerate(tokens) if token == eos), len(tokens)]
    start, end = max(pairwise(ends), key=lambda bounds: bounds[1] - bounds[0])
    return start + 1, end


class FillMasks(Answerer):
    """Replace each <|mask|> of a text by its likeliest token."""

    def __init__(self, context: int) -> None:
        self.context = context

    @torch.inference_mode()
    def answer(self, model: Transformer, tokenizer: Tokenizer, inputs: list[str]) -> list[str]:
        outputs, device = [], model.embedding.weight.device
        for text in inputs:
            tokens = torch.tensor([masked_tokens(text, tokenizer)[: self.context]], device=device)
            is_masked = tokens == tokenizer.mask
            tokens[is_masked] = model.head(model(tokens)[is_masked]).argmax(dim=-1)
            outputs.append(tokenizer.decode(tokens[0].tolist()))
        return outputs


class Mlm(Task):
    primary_metric = "loss"
    higher_is_better = False
    loss_baseline = "unigram model"

    def __init__(self, config: schema.MlmConfig, model: schema.ModelConfig) -> None:
        layout = MaskedStream(model.context, config)
        super().__init__(config, model, layout, FillMasks(model.context))

    def loss_metrics(
        self, store: TokenStore, split: str, losses: LossSums, counts: LossCounts
    ) -> dict[str, float]:
        loss = float(losses.mean(counts))
        unigram = unigram_loss(store, split) / len(store.tokens(split))
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "baseline/loss": unigram,
            "baseline/perplexity": math.exp(unigram),
        }


def masked_tokens(text: str, tokenizer: Tokenizer) -> list[int]:
    """Encode a text with <|mask|> in it; a mask stands for a token with its leading space, if tokens have one."""
    has_leading_space = len(tokenizer.encode(" a")) == 1
    tokens: list[int] = []
    for number, piece in enumerate(text.split(MASK)):
        if number:
            if has_leading_space and tokens and tokens[-1:] == tokenizer.encode(" "):
                tokens.pop()
            tokens.append(tokenizer.mask)
        tokens += tokenizer.encode(piece)
    return tokens or [tokenizer.eos]
