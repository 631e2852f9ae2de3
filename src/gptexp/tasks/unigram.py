"""The baseline of language models: a unigram model of the training split."""

import numpy as np

from gptexp.data.token_store import TokenStore

CHUNK = 1 << 22  # tokens that are counted at once
# A split with more tokens is counted in pieces, evenly spaced.
COUNTED_TOKENS, COUNTED_REMOTE_TOKENS = 1 << 28, 1 << 24
PIECES = 64


def unigram_loss(store: TokenStore, split: str) -> float:
    """Return the nats that a held-out split costs under add-one smoothed token frequencies of the training split."""
    vocab_size = store.meta["vocab_size"]
    frequencies = _count_tokens(store, "train", vocab_size) + 1
    counts = _count_tokens(store, split, vocab_size)
    counts[int(store.tokens(split)[:1][0])] -= 1  # nothing predicts the first token
    return float(-(counts * np.log(frequencies / frequencies.sum())).sum())


def _count_tokens(store: TokenStore, split: str, vocab_size: int) -> np.ndarray:
    """Return how often each token is in a split; of a large one, as its pieces suggest."""
    tokens = store.tokens(split)
    limit = COUNTED_TOKENS if tokens.is_local else COUNTED_REMOTE_TOKENS
    size, starts = CHUNK, np.arange(0, len(tokens), CHUNK)
    if len(tokens) > limit:
        size = limit // PIECES
        starts = np.linspace(0, len(tokens) - size, PIECES, dtype=np.int64)
    tokens.prefetch(starts, np.full(len(starts), size))
    counts = np.zeros(vocab_size, np.int64)
    for start in starts:
        counts += np.bincount(tokens[start : start + size], minlength=vocab_size)
    return counts if len(tokens) <= limit else counts * (len(tokens) / (PIECES * size))
