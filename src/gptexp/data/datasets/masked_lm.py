"""Masked language modelling (Devlin et al. 2018, arXiv 1810.04805): predict masked tokens from both sides.

Masking is dynamic, as in RoBERTa (arXiv 1907.11692): the masks of a sequence follow from (seed, epoch, sequence).
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.data.batch import IGNORE, Batch
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.tokenizers import Tokenizer

MASK_RATE, RANDOM_RATE = 0.8, 0.1  # of the selected tokens; the others stay as they are


class MaskedLMDataset(SequenceDataset):
    """The sequences of another data set, with targets at the selected tokens only."""

    def __init__(
        self,
        inner: SequenceDataset,
        tokenizer: Tokenizer,
        config: schema.MaskedLMConfig,
        seed: int | None,
    ) -> None:
        self.inner, self.fraction, self.seed = inner, config.mask_fraction, seed or 0
        self.is_local = inner.is_local
        self.mask = tokenizer.mask
        self.is_ordinary = np.ones(tokenizer.vocab_size, bool)
        self.is_ordinary[[tokenizer.eos, tokenizer.pad, tokenizer.sep, tokenizer.mask]] = False
        self.ordinary_tokens = np.flatnonzero(self.is_ordinary)
        self.begins_word = np.ones(tokenizer.vocab_size, bool)
        if config.whole_words:
            self.begins_word = _begins_word(tokenizer)

    def __len__(self) -> int:
        return len(self.inner)

    def prefetch(self, indices: NDArray[np.int64], epoch: int) -> None:
        self.inner.prefetch(indices, epoch)

    def batch(
        self, indices: NDArray[np.int64], epoch: int, global_indices: NDArray[np.int64]
    ) -> Batch:
        # Each rank masks the whole global batch, because the number of targets depends on the masks.
        batch = self.inner.batch(global_indices, epoch, global_indices)
        tokens = batch.tokens.numpy().copy()
        targets = np.full_like(tokens, IGNORE)
        lengths = [tokens.shape[1]] * len(tokens)
        if batch.lengths is not None:
            lengths = batch.lengths.tolist()
        for row, (index, length) in enumerate(zip(global_indices.tolist(), lengths, strict=True)):
            rng = np.random.default_rng([self.seed, epoch, index])
            self._mask(tokens[row, :length], targets[row, :length], rng)
        masked = replace(
            batch,
            tokens=torch.from_numpy(tokens),
            targets=torch.from_numpy(targets),
            counts=batch.counts._replace(targets=int((targets != IGNORE).sum())),
        )
        row_of = {index: row for row, index in enumerate(global_indices.tolist())}
        return masked.rows(torch.tensor([row_of[i] for i in indices.tolist()], dtype=torch.int64))

    def _mask(
        self, tokens: NDArray[np.int64], targets: NDArray[np.int64], rng: np.random.Generator
    ) -> None:
        """Select words of one sequence in random order up to the fraction, and change tokens and targets in place."""
        candidates = np.flatnonzero(self.is_ordinary[tokens])
        if len(candidates) == 0:
            return
        limit = max(1, round(self.fraction * len(candidates)))
        starts_word = self.begins_word[tokens[candidates[1:]]] | (np.diff(candidates) > 1)
        words = np.split(candidates, 1 + np.flatnonzero(starts_word))
        selected: list[int] = []
        for word in rng.permutation(len(words)):
            if len(selected) + len(words[word]) <= limit:
                selected += words[word].tolist()
            if len(selected) == limit:
                break
        targets[selected] = tokens[selected]
        draw = rng.random(len(selected))
        random_tokens = rng.choice(self.ordinary_tokens, len(selected))
        replaced = np.where(draw < MASK_RATE, self.mask, random_tokens)
        tokens[selected] = np.where(draw < MASK_RATE + RANDOM_RATE, replaced, tokens[selected])


def _begins_word(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Return [V] whether a token begins a word: all but those that begin with a letter or digit."""
    texts = (
        tokenizer.backend.decode([token], skip_special_tokens=False)
        for token in range(tokenizer.vocab_size)
    )
    return np.array([not text[:1].isalnum() for text in texts])
