"""Measure weights as language models: bits per byte of held-out documents, copying, and what they say about people.

    python benchmarks/base.py                                         base, on docstrings
    python benchmarks/base.py base old --corpus corpus --json figures.json    two, on the corpus of examples/base

Baselines of the documents: a 5-gram model that was trained on the same text (Witten-Bell smoothing, as in Chen and
Goodman 1998), and xz. Copying: random tokens, twice; a model that copies needs
few nats for the second half (induction heads, Olsson et al. 2022, arXiv 2209.11895).

Shapes: B sequences, T tokens, V vocabulary.
"""

import argparse
import gzip
import json
import lzma
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gptexp.auditing.probe import Sentences, probe_model
from gptexp.checkpoints.find_weights import find_weights
from gptexp.checkpoints.load_model import load
from gptexp.config import compose
from gptexp.config.cache import cache_folder
from gptexp.data.corpora import open_corpus
from gptexp.data.tokenizers import Tokenizer
from gptexp.distributed.devices import pick_device
from gptexp.errors import UserError, exits_cleanly
from gptexp.files import atomic_write
from gptexp.model import Transformer

Documents = Callable[[str], Iterator[str]]  # split -> texts
ORDER = 5
BATCH_TOKENS = 8192
COPIED_LENGTHS = (8, 16, 32, 64, 128, 248)
COPIED_SEQUENCES = 32
SPLITS = {"test": "held out, of sources that are trained on", "unseen": "of sources never seen"}
SENTENCE_FILES = {"professions": None, "beliefs": Path(__file__).with_name("base_beliefs.yaml")}
PRONOUNS = {"he": "he him his himself", "she": "she her hers herself", "they": "they them their"}


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("weights", nargs="*", default=["base"], help="as for gptexp generate")
    parser.add_argument("--corpus", type=Path, help="folder of examples/base; default: docstrings")
    parser.add_argument("--megabytes", type=float, default=1.0, help="of each held-out split")
    parser.add_argument("--training-megabytes", type=float, default=40.0, help="of the baselines")
    parser.add_argument("--json", type=Path, help="file to write the figures to, for base_card.py")
    args = parser.parse_args()
    check_names(args.weights)
    documents = read_docstrings if args.corpus is None else corpus_reader(args.corpus)
    held_out = {split: take_bytes(shuffled(documents(split)), args.megabytes) for split in SPLITS}
    training = take_bytes(documents("train"), args.training_megabytes)
    figures: dict[str, Any] = {"pronouns": count_pronouns(training)}
    models = {name: load(find_weights(name)) for name in args.weights}
    figures["baselines"] = measure_baselines(held_out, training, next(iter(models.values()))[1])
    figures["models"] = {
        Path(name).name: {
            "context": model.config.context,
            "bits_per_byte": {
                split: bits_per_byte(model.to(pick_device()), tokenizer, texts)
                for split, texts in held_out.items()
            },
            "copying": measure_copying(model, tokenizer),
            "probes": {key: probe(name, file) for key, file in SENTENCE_FILES.items()},
        }
        for name, (model, tokenizer) in models.items()
    }
    print(format_tables(figures))
    if args.json:
        with atomic_write(args.json) as file:
            file.write_text(json.dumps(figures, indent=2) + "\n")


def check_names(weights: Sequence[str]) -> None:
    """Refuse weights whose columns would have the same title, the name of their folder.

    Raises:
        UserError: two of them have the same name.
    """
    names = [Path(name).name for name in weights]
    if len(set(names)) < len(names):
        raise UserError(
            f"{' '.join(weights)}: the figures are listed by folder name, and two are the same. Rename one folder"
        )


def read_docstrings(split: str) -> Iterator[str]:
    config = compose.compose_config(["task=pretrain"])
    corpus = open_corpus(config.data, ("text",), cache_folder(config))
    return (example.fields["text"] for example in corpus if example.split == split)


def corpus_reader(folder: Path) -> Documents:
    """Return a function that yields the documents of a split of a folder of JSON lines, without records of tasks."""

    def read(split: str) -> Iterator[str]:
        for file in sorted(folder.glob(f"{split}*.jsonl.gz")):
            with gzip.open(file, "rt", encoding="utf8") as lines:
                for record in map(json.loads, lines):
                    if "answer" not in record:
                        yield record["text"]

    return read


def take_bytes(texts: Iterable[str], megabytes: float) -> list[str]:
    """Return the first texts, up to a size."""
    size, taken = 0, []
    for text in texts:
        size += len(text.encode())
        if size > megabytes * 1e6:
            break
        taken.append(text)
    return taken


def shuffled(texts: Iterable[str]) -> list[str]:
    """Return the texts in a random order, always the same."""
    in_order = list(texts)
    Random(0).shuffle(in_order)
    return in_order


def count_pronouns(texts: Sequence[str]) -> dict[str, float]:
    """Return how often pronouns stand in a million words."""
    words = [word for text in texts for word in re.findall(r"[a-z']+", text.lower())]
    return {
        name: sum(word in forms.split() for word in words) / len(words) * 1e6
        for name, forms in PRONOUNS.items()
    }


def token_losses(model: Transformer, rows: Sequence[list[int]]) -> list[Tensor]:
    """Return the nats of all tokens of each row but its first, [T - 1]."""
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    losses: dict[int, Tensor] = {}
    size = max(1, BATCH_TOKENS // max(map(len, rows)))
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        longest = max(len(rows[number]) for number in numbers)
        padded = [rows[number] + [0] * (longest - len(rows[number])) for number in numbers]
        tokens = torch.tensor(padded, device=model.embedding.weight.device)
        with torch.inference_mode():
            logits = model.logits(model(tokens[:, :-1])).float()  # [B, T - 1, V]
            nats = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").cpu()
        for number, row in zip(numbers, nats, strict=True):
            losses[number] = row[: len(rows[number]) - 1]
    return [losses[number] for number in range(len(rows))]


def bits_per_byte(model: Transformer, tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Return the bits that a document and its end need, per byte; long ones are cut at the context."""
    rows, context = [], model.config.context
    for ids in tokenizer.encode_batch(list(texts)):
        tokens = [*(tokenizer.bos_ids or [tokenizer.eos]), *ids, tokenizer.eos]
        rows += [tokens[i : i + context + 1] for i in range(0, len(tokens) - 1, context)]
    nats = sum(float(loss.double().sum()) for loss in token_losses(model, rows))
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def measure_copying(model: Transformer, tokenizer: Tokenizer) -> dict[str, list[float]]:
    """Map a number of random tokens to the nats a token of them, and of their repetition without its first token."""
    specials = {tokenizer.eos, tokenizer.pad, tokenizer.sep, tokenizer.mask}
    usual = torch.tensor(sorted(set(range(tokenizer.vocab_size)) - specials))
    generator, copying = torch.Generator().manual_seed(0), {}
    for length in COPIED_LENGTHS:
        if 2 * length > model.config.context:
            break
        chosen = torch.randint(len(usual), (COPIED_SEQUENCES, length), generator=generator)
        half = usual[chosen]
        start = torch.full((COPIED_SEQUENCES, 1), tokenizer.eos)
        rows = torch.cat((start, half, half), dim=1).tolist()
        losses = torch.stack(token_losses(model, rows))  # [B, 2 * length]
        copying[str(length)] = [
            float(losses[:, :length].mean()),
            float(losses[:, length + 1 :].mean()),
        ]
    return copying


def probe(name: str, file: Path | None) -> dict[str, Any]:
    """Return how likely sentences about one group are next to those about another, as `gptexp audit --model` does."""
    result = probe_model(name, Sentences.load(file) if file else Sentences.load())
    fillers = {filler: list(estimate) for filler, estimate in result.fillers.items()}
    return {
        "groups": [result.first, result.second],
        "share": result.share_first,
        "overall": list(result.overall),
        "fillers": fillers,
    }


def measure_baselines(
    held_out: dict[str, list[str]], training: Sequence[str], tokenizer: Tokenizer
) -> dict[str, dict[str, float]]:
    """Return the bits per byte of a 5-gram model and of xz for each held-out split."""
    train = flatten(training, tokenizer)
    baselines = {}
    for split, texts in held_out.items():
        tokens, text = flatten(texts, tokenizer), "\n".join(texts).encode()
        nats = ngram_nats(train, tokens, tokenizer.vocab_size)
        baselines[split] = {
            "bytes": len(text),
            "training_tokens": len(train),
            "5-gram": nats / math.log(2) / len(text),
            "xz": 8 * len(lzma.compress(text)) / len(text),
        }
    return baselines


def flatten(texts: Sequence[str], tokenizer: Tokenizer) -> NDArray[np.uint32]:
    """Return the tokens of all texts, each with its end."""
    encoded = tokenizer.encode_batch(list(texts))
    return np.array([token for ids in encoded for token in (*ids, tokenizer.eos)], np.uint32)


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


def format_tables(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown tables."""
    tables = [format_documents(figures), format_copying(figures)]
    return "\n\n".join([*tables, *(format_probe(figures, key) for key in SENTENCE_FILES)])


def format_documents(figures: dict[str, Any]) -> str:
    baselines = ("5-gram", "xz")
    rows = [["bits per byte of documents", "bytes", *figures["models"], *baselines]]
    for split, description in SPLITS.items():
        values = figures["baselines"][split]
        bits = [model["bits_per_byte"][split] for model in figures["models"].values()]
        bits += [values[key] for key in baselines]
        rows.append([description, f"{values['bytes']:,}", *(f"{value:.3f}" for value in bits)])
    return format_table(rows)


def format_copying(figures: dict[str, Any]) -> str:
    models = figures["models"]
    rows = [["random tokens", *(f"{name}: nats each, and again" for name in models)]]
    for length in map(str, COPIED_LENGTHS):
        cells = [model["copying"].get(length) for model in models.values()]
        rows.append([length, *("" if x is None else f"{x[0]:.2f}, {x[1]:.2f}" for x in cells)])
    return format_table(rows)


def format_probe(figures: dict[str, Any], key: str) -> str:
    """Return a table of the fillers that the first model treats unlike the others."""
    probes = {name: model["probes"][key] for name, model in figures["models"].items()}
    first = next(iter(probes.values()))
    rows = [[f"nats, {' over '.join(first['groups'])}", *probes]]
    rows.append(["all pairs", *(format_estimate(item["overall"]) for item in probes.values())])
    for filler, (_, low, high) in first["fillers"].items():
        if low > 0 or high < 0:
            estimates = [item["fillers"][filler] for item in probes.values()]
            rows.append([f"{filler}, less all pairs", *map(format_estimate, estimates)])
    rest = len(first["fillers"]) - len(rows) + 2
    return f"{format_table(rows)}\n\n{rest} others do not differ from all pairs."


def format_estimate(estimate: Sequence[float]) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*estimate)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


if __name__ == "__main__":
    main()
