"""Masked language modelling (Devlin et al. 2018): hidden tokens from those on both sides, over windows of a stream."""

import math
from collections.abc import Iterator

import numpy as np
import torch

from gptexp.config import schema
from gptexp.data.batch import IGNORE
from gptexp.data.datasets.masked_lm import Masked
from gptexp.data.datasets.windows import SequenceDataset, Windows
from gptexp.data.token_store import TokenStore
from gptexp.data.tokenizers import MASK, Tokenizer
from gptexp.model import Transformer
from gptexp.model.loss import LossCounts, LossSums
from gptexp.tasks.pretrain import Pretrain, unigram_loss


class Mlm(Pretrain):
    continues = False
    headline = "loss"
    lead_last_fraction = 0.0
    config: schema.MlmConfig  # type: ignore[assignment]

    def sequences(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        windows = Windows(store, split, self.context, seed, document_mask=False)
        return Masked(windows, store.tokenizer, self.config, seed)

    def held_out(self, store: TokenStore, split: str, count: int) -> Iterator[dict[str, str]]:
        """The beginnings of windows from all over the split, with and without their hidden tokens."""
        sequences = self.sequences(store, split, None)
        for index in np.linspace(
            0, len(sequences) - 1, num=min(count, len(sequences)), dtype=np.int64
        ):
            batch = sequences.batch(index[None], 0, index[None])
            given, hidden = batch.tokens[0, :48], batch.targets[0, :48]
            whole = torch.where(hidden == IGNORE, given, hidden)
            rows = (
                row[whole != store.tokenizer.eos] for row in (given, whole)
            )  # where a document ends says no text
            texts = (
                store.tokenizer.backend.decode(row.tolist(), skip_special_tokens=False)
                for row in rows
            )
            yield dict(zip(("source", "target"), texts, strict=True))

    @torch.inference_mode()
    def answers(self, model: Transformer, tokenizer: Tokenizer, texts: list[str]) -> list[str]:
        """Each text with the likeliest token in each place of <|mask|>."""
        found, device = [], model.embedding.weight.device
        for text in texts:
            tokens = torch.tensor([masked_tokens(text, tokenizer)[: self.context]], device=device)
            hidden = tokens == tokenizer.mask
            tokens[hidden] = model.head(model(tokens)[hidden]).argmax(dim=-1)
            found.append(tokenizer.decode(tokens[0].tolist()))
        return found

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
    """Tokens of a text in which <|mask|> stands for what is to be guessed, a leading space of it included."""
    carries_space = len(tokenizer.encode(" a")) == 1
    tokens: list[int] = []
    for number, piece in enumerate(text.split(MASK)):
        if number:
            if carries_space and tokens and tokens[-1:] == tokenizer.encode(" "):
                tokens.pop()
            tokens.append(tokenizer.mask)
        tokens += tokenizer.encode(piece)
    return tokens or [tokenizer.eos]
