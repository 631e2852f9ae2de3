"""Measure weights as a language model: bits per byte of documents that they were not trained on.

    python benchmarks/base.py                                  base: 1.171 on the test split, 1.363 on unseen packages
    python benchmarks/base.py outputs/pretrain-small-1a2b3c4d  another run on pydocs

Baselines: a 5-gram model trained on the same tokens (Witten-Bell smoothing, as in Chen and Goodman 1998), and xz, both
alone and after a training text of 32 MB.
"""

import argparse
import lzma
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gptexp.checkpoints.find_weights import find_weights
from gptexp.checkpoints.load_model import load
from gptexp.config import compose
from gptexp.distributed.devices import pick_device
from gptexp.machine import available_cpus
from gptexp.tasks.prepare import prepare
from gptexp.training.evaluation import evaluate

ORDER = 5
TRAINING_CHARACTERS = 32_000_000  # of the text that xz compresses before a split
SPLITS = {"test": "the same packages", "unseen": "packages never seen"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("weights", nargs="?", default="base")
    args = parser.parse_args()
    source = find_weights(args.weights)
    config = replace(
        compose.compose_config(["experiment=base", "task.lead_last_fraction=0"]),
        init_digest=source.weights_digest(),
    )
    prepared = prepare(config, source.tokenizer)
    model, tokenizer = load(source)
    model.to(pick_device())
    store = prepared.store
    train, vocabulary = store.tokens("train"), tokenizer.vocab_size
    training_text = tokenizer.decode(train[: TRAINING_CHARACTERS // 3].tolist())
    before = training_text[:TRAINING_CHARACTERS].encode()
    size_before = len(_xz(before))
    print(
        f"{len(train):,} tokens of training text, context {config.model.context}, {available_cpus()} cores"
    )
    print("| documents of | bytes | model | 5-gram | xz after training text | xz | unigram |")
    print("|---|---|---|---|---|---|---|")
    for split, name in SPLITS.items():
        metrics = evaluate(model, prepared.task, store, split, "32").metrics
        bits_per_byte = {
            "unigram" if "baseline" in key else "model": value
            for key, value in metrics.items()
            if key.endswith("bits_per_byte")
        }
        tokens, size = store.tokens(split), store.meta["splits"][split]["bytes"]
        text = tokenizer.decode(tokens.tolist()).encode()
        five_gram = ngram_nats(train, tokens, vocabulary) / math.log(2) / size
        figures = (
            bits_per_byte["model"],
            five_gram,
            8 * (len(_xz(before + text)) - size_before) / size,
            8 * len(_xz(text)) / size,
            bits_per_byte["unigram"],
        )
        print(
            f"| {name} | {size:,} | {' | '.join(f'{figure:.3f}' for figure in figures)} |",
            flush=True,
        )


def ngram_nats(train: NDArray, held_out: NDArray, vocabulary: int) -> float:
    """Return the nats that an n-gram model of order ORDER, counted on `train`, needs for all but the first tokens."""
    skipped = ORDER - 1
    probability = np.full(len(held_out) - skipped, 1 / vocabulary)
    for order in range(1, ORDER + 1):
        seen, needed = _grams(train, order), _grams(held_out, order)[skipped - order + 1 :]
        grams, first, counts = np.unique(seen, return_index=True, return_counts=True)
        contexts = _grams(train, order - 1)[: len(seen)]
        histories, totals = np.unique(contexts, return_counts=True)
        kinds = np.bincount(np.searchsorted(histories, contexts[first]), minlength=len(histories))
        history = _grams(held_out, order - 1)[skipped - order + 1 :][: len(needed)]
        total, kind = _look_up(histories, totals, history), _look_up(histories, kinds, history)
        smoothed = (_look_up(grams, counts, needed) + kind * probability) / np.maximum(
            1, total + kind
        )
        probability = np.where(total > 0, smoothed, probability)
    return float(-np.log(probability).sum())


def _grams(tokens: NDArray, order: int) -> NDArray[np.uint64]:
    """Return a hash of the `order` tokens from each position on."""
    hashes = np.zeros(len(tokens) - max(0, order - 1), np.uint64)
    for offset in range(order):
        part = tokens[offset : offset + len(hashes)].astype(np.uint64)
        hashes = (hashes ^ part) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _look_up(keys: NDArray, values: NDArray, queries: NDArray) -> NDArray:
    """Return the value of each query's key, or 0 where there is none; `keys` are sorted."""
    index = np.searchsorted(keys, queries).clip(max=len(keys) - 1)
    return np.where(keys[index] == queries, values[index], 0)


def _xz(data: bytes) -> bytes:
    return lzma.compress(
        data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}]
    )


if __name__ == "__main__":
    main()
