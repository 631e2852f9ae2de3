"""Does the best learning rate stay when the model becomes wider? Standard parametrization against model.base_width.

    python benchmarks/width_transfer.py width_transfer.jsonl
    python benchmarks/width_transfer.py width_transfer.jsonl --optim muon

Trains 2 layers of three widths with five rates and two seeds each, with and without width transfer from the smallest
width, on the bytes of Python's own help texts; about ten minutes of one core for an optimizer. Runs that the file has
are not repeated. Prints the loss of each cell, and the best rate of each width: the vertex of a parabola through the
losses over log2 of the rate, with the range over resampled seeds.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from torch import Tensor

from gptexp.config import schema
from gptexp.model import Transformer, TransformerConfig
from gptexp.training.optimizers import build_optimizers
from gptexp.training.schedule import Linear

WIDTHS = (64, 128, 256)
SEEDS = (1, 2)
RATES = {"adamw": (0.0005, 0.001, 0.002, 0.004, 0.008), "muon": (0.01, 0.02, 0.04, 0.08, 0.16)}
SEQUENCES, CONTEXT, STEPS = 16, 64, 120
HELD_OUT = 1 / 10  # of the text, at its end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "file", type=Path, help="results, one line a run; read first, then extended"
    )
    parser.add_argument("--optim", choices=RATES, default="adamw")
    args = parser.parse_args()
    runs = [json.loads(line) for line in args.file.open()] if args.file.is_file() else []
    done = {json.dumps(run["run"]) for run in runs}
    jobs = itertools.product([args.optim], (False, True), WIDTHS, RATES[args.optim], SEEDS)
    for job in jobs:
        if json.dumps(job) not in done:
            run = {"run": job, "loss": train(*job)}
            runs.append(run)
            with args.file.open("a") as out:
                out.write(f"{json.dumps(run)}\n")
            print(*job, f"{run['loss']:.4f}", file=sys.stderr)
    losses = {tuple(run["run"]): run["loss"] for run in runs}
    for transfers in (False, True):
        print_table(args.optim, transfers, losses)


def train(optim: str, transfers: bool, width: int, rate: float, seed: int) -> float:
    """Train one model; return its loss on the held-out text, in nats per byte."""
    text = np.frombuffer("\n".join(topics.values()).encode(), np.uint8)
    cut = round((1 - HELD_OUT) * len(text))
    torch.manual_seed(seed)
    model = Transformer(
        TransformerConfig(
            vocab_size=256,
            layers=2,
            d_model=width,
            heads=4,
            kv_heads=4,
            d_ff=width * 8 // 3 // 16 * 16,
            context=CONTEXT,
            base_width=WIDTHS[0] if transfers else None,
        )
    )
    config = {
        "adamw": schema.AdamWConfig(lr=rate),
        "muon": schema.MuonConfig(lr=rate, adamw_lr=rate / 4),
    }[optim]
    optimizers = build_optimizers(model, config)
    schedule, random = Linear(schema.LinearConfig()), np.random.default_rng(seed)
    for step in range(STEPS):
        for group in itertools.chain(*(optimizer.param_groups for optimizer in optimizers)):
            group["lr"] = group["peak_lr"] * schedule.multiplier(step, STEPS)
        mean_loss(model, text[:cut], random.integers(0, cut - CONTEXT, SEQUENCES)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        held_out = text[cut:]
        starts = np.arange(0, len(held_out) - CONTEXT, CONTEXT)
        return float(mean_loss(model, held_out, starts))


def mean_loss(model: Transformer, text: np.ndarray, starts: np.ndarray) -> Tensor:
    windows = np.stack([text[start : start + CONTEXT + 1] for start in starts]).astype(np.int64)
    tokens = torch.from_numpy(windows)
    return model.loss(tokens[:, :-1], tokens[:, 1:]).targets / tokens[:, 1:].numel()


def print_table(optim: str, transfers: bool, losses: dict[tuple, float]) -> None:
    rates = RATES[optim]
    print(f"\n{optim}, {f'base_width={WIDTHS[0]}' if transfers else 'without width transfer'}")
    print("| width | " + " | ".join(f"{rate:g}" for rate in rates) + " | best rate | range |")
    print("|---" * (len(rates) + 3) + "|")
    for width in WIDTHS:
        cells = np.array(
            [[losses[optim, transfers, width, rate, seed] for seed in SEEDS] for rate in rates]
        )
        best = [
            find_best_rate(rates, [cells[i, seed] for i, seed in enumerate(chosen)])
            for chosen in itertools.product(range(len(SEEDS)), repeat=len(rates))
        ]
        row = [f"{mean:.3f}" for mean in cells.mean(axis=1)]
        vertex = find_best_rate(rates, cells.mean(axis=1))
        low, high = np.quantile(best, [0.025, 0.975])
        print(f"| {width} | {' | '.join(row)} | {vertex:.4f} | {low:.4f} to {high:.4f} |")


def find_best_rate(rates: tuple[float, ...], losses: list[float] | np.ndarray) -> float:
    """Return the vertex of a parabola through the least loss and its two neighbours, over log2 of the rate."""
    middle = int(np.clip(np.argmin(losses), 1, len(rates) - 2))
    part = slice(middle - 1, middle + 2)
    a, b, _ = np.polyfit(np.log2(rates[part]), losses[part], 2)
    vertex = -b / (2 * a) if a > 0 else np.log2(rates[int(np.argmin(losses))])
    return float(2 ** np.clip(vertex, *np.log2([rates[0], rates[-1]])))


if __name__ == "__main__":
    main()
