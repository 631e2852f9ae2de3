"""Masked language modelling (Devlin et al. 2018, arXiv 1810.04805): hide tokens, to be guessed from both sides.

Dynamic as in RoBERTa (arXiv 1907.11692): what is hidden is a function of (seed, epoch, sequence), anew each epoch.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.data.batch import IGNORE, Batch
from gptexp.data.datasets.windows import SequenceDataset
from gptexp.data.tokenizers import Tokenizer

MASKED, RANDOM = 0.8, 0.1  # of the chosen tokens; the rest stay as they are


class Masked(SequenceDataset):
    """The sequences of `inner`, with targets at the hidden tokens only."""

    def __init__(
        self,
        inner: SequenceDataset,
        tokenizer: Tokenizer,
        config: schema.MaskedLMConfig,
        seed: int | None,
    ) -> None:
        self.inner, self.fraction, self.seed = inner, config.mask_fraction, seed or 0
        self.mask = tokenizer.mask
        self.is_ordinary = np.ones(tokenizer.vocab_size, bool)
        self.is_ordinary[[tokenizer.eos, tokenizer.pad, tokenizer.sep, tokenizer.mask]] = False
        self.ordinary = np.flatnonzero(self.is_ordinary)
        self.begins_word = (
            _begins_word(tokenizer) if config.whole_words else np.ones(tokenizer.vocab_size, bool)
        )

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: NDArray[np.int64], epoch: int, whole: NDArray[np.int64]) -> Batch:
        everything = self.inner.batch(
            whole, epoch, whole
        )  # how many are hidden in all, each rank sees for itself
        tokens = everything.tokens.numpy().copy()
        targets = np.full_like(tokens, IGNORE)
        lengths = (
            everything.lengths.tolist()
            if everything.lengths is not None
            else [tokens.shape[1]] * len(tokens)
        )
        for row, (index, length) in enumerate(zip(whole.tolist(), lengths, strict=True)):
            self._hide(
                tokens[row, :length],
                targets[row, :length],
                np.random.default_rng([self.seed, epoch, index]),
            )
        hidden = replace(
            everything,
            tokens=torch.from_numpy(tokens),
            targets=torch.from_numpy(targets),
            counts=everything.counts._replace(targets=int((targets != IGNORE).sum())),
        )
        place = {index: row for row, index in enumerate(whole.tolist())}
        return hidden.rows(
            torch.tensor([place[index] for index in indices.tolist()], dtype=torch.int64)
        )

    def _hide(
        self, tokens: NDArray[np.int64], targets: NDArray[np.int64], rng: np.random.Generator
    ) -> None:
        """Choose words of one sequence in random order while they fit into the share, and change both in place."""
        eligible = np.flatnonzero(self.is_ordinary[tokens])
        if len(eligible) == 0:
            return
        wanted = max(1, round(self.fraction * len(eligible)))
        begins = self.begins_word[tokens[eligible[1:]]] | (np.diff(eligible) > 1)
        words = np.split(eligible, 1 + np.flatnonzero(begins))
        chosen: list[int] = []
        for word in rng.permutation(len(words)):
            if len(chosen) + len(words[word]) <= wanted:
                chosen += words[word].tolist()
            if len(chosen) == wanted:
                break
        targets[chosen] = tokens[chosen]
        fate = rng.random(len(chosen))
        replaced = np.where(fate < MASKED, self.mask, rng.choice(self.ordinary, len(chosen)))
        tokens[chosen] = np.where(fate < MASKED + RANDOM, replaced, tokens[chosen])


def _begins_word(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """[V] whether a token starts a word: all but those that begin with a letter or digit, as a word's tail does."""
    texts = (
        tokenizer.backend.decode([number], skip_special_tokens=False)
        for number in range(tokenizer.vocab_size)
    )
    return np.array([not text[:1].isalnum() for text in texts])
