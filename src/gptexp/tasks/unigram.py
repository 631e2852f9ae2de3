"""The baseline of language models: a unigram model of the training split."""

import numpy as np

from gptexp.data.token_store import TokenStore


def unigram_loss(store: TokenStore, split: str) -> float:
    """Return the nats that a held-out split costs under add-one smoothed token frequencies of the training split."""
    vocab_size = store.meta["vocab_size"]
    frequencies = _count_tokens(store, "train", vocab_size) + 1
    counts = _count_tokens(store, split, vocab_size)
    counts[int(store.tokens(split)[:1][0])] -= 1  # nothing predicts the first token
    return float(-(counts * np.log(frequencies / frequencies.sum())).sum())


def _count_tokens(store: TokenStore, split: str, vocab_size: int) -> np.ndarray:
    tokens = store.tokens(split)
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(tokens), 1 << 22):
        counts += np.bincount(tokens[start : start + (1 << 22)], minlength=vocab_size)
    return counts
