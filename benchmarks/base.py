"""What the base weights are worth as a language model: bits per byte of documents that they have not seen.

    python benchmarks/base.py                                 the weights that gptexp brings
    python benchmarks/base.py outputs/pretrain-small-1a2b3c4d  another run on pydocs

Beside them a 5-gram model over the same tokens, trained on the same documents (Witten-Bell smoothing, as in Chen and
Goodman 1998), and xz, both alone and with a training text of 32 MB before it.
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
from gptexp.distributed.environment import cores
from gptexp.tasks.prepare import prepare
from gptexp.training.evaluation import evaluate

ORDER = 5
PRIMED = 32_000_000  # characters
SPLITS = {"test": "the same packages", "unseen": "packages never seen"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("weights", nargs="?", default="base")
    asked = parser.parse_args()
    source = find_weights(asked.weights)
    config = replace(
        compose.compose_config(["experiment=base", "task.lead_last_fraction=0"]),
        init_digest=source.weights_digest(),
    )
    prepared = prepare(config, source.tokenizer)
    model, tokenizer = load(source)
    model.to(pick_device())
    store = prepared.store
    train, vocabulary = store.tokens("train"), tokenizer.vocab_size
    before = tokenizer.decode(train[: PRIMED // 3].tolist())[:PRIMED].encode()
    primed = len(_xz(before))
    print(
        f"{len(train):,} tokens of training text, context {config.model.context}, {cores()} cores"
    )
    print("| documents of | bytes | model | 5-gram | xz after training text | xz | unigram |")
    print("|---|---|---|---|---|---|---|")
    for split, name in SPLITS.items():
        found = evaluate(model, prepared.task, store, split, "32").metrics
        found = {
            key.rsplit("/", 1)[-1] if "baseline" not in key else "unigram": value
            for key, value in found.items()
            if key.endswith("bits_per_byte")
        }
        tokens, size = store.tokens(split), store.meta["splits"][split]["bytes"]
        text = tokenizer.decode(tokens.tolist()).encode()
        five = ngram_nats(train, tokens, vocabulary) / math.log(2) / size
        figures = (
            found["bits_per_byte"],
            five,
            8 * (len(_xz(before + text)) - primed) / size,
            8 * len(_xz(text)) / size,
            found["unigram"],
        )
        print(
            f"| {name} | {size:,} | {' | '.join(f'{figure:.3f}' for figure in figures)} |",
            flush=True,
        )


def ngram_nats(train: NDArray, held_out: NDArray, vocabulary: int) -> float:
    """Nats that an n-gram model of order ORDER, counted on `train`, needs for `held_out`, its first tokens given."""
    given = ORDER - 1
    likely = np.full(len(held_out) - given, 1 / vocabulary)
    for order in range(1, ORDER + 1):
        seen, asked = _grams(train, order), _grams(held_out, order)[given - order + 1 :]
        grams, first, counts = np.unique(seen, return_index=True, return_counts=True)
        contexts = _grams(train, order - 1)[: len(seen)]
        histories, totals = np.unique(contexts, return_counts=True)
        kinds = np.bincount(np.searchsorted(histories, contexts[first]), minlength=len(histories))
        before = _grams(held_out, order - 1)[given - order + 1 :][: len(asked)]
        total, kind = (
            _single_query_attention(histories, totals, before),
            _single_query_attention(histories, kinds, before),
        )
        count = _single_query_attention(grams, counts, asked)
        likely = np.where(total > 0, (count + kind * likely) / np.maximum(1, total + kind), likely)
    return float(-np.log(likely).sum())


def _grams(tokens: NDArray, order: int) -> NDArray[np.uint64]:
    """A number for each run of `order` tokens, by its first token: equal for equal runs, and hardly ever else."""
    found = np.zeros(len(tokens) - max(0, order - 1), np.uint64)
    for offset in range(order):
        part = tokens[offset : offset + len(found)].astype(np.uint64)
        found = (found ^ part) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found


def _single_query_attention(keys: NDArray, values: NDArray, wanted: NDArray) -> NDArray:
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def _xz(data: bytes) -> bytes:
    return lzma.compress(
        data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}]
    )


if __name__ == "__main__":
    main()
