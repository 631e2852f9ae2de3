"""Measure how long a training step waits for a checkpoint, with the weights and the AdamW state of GPT-2 (124 M).

    OMP_NUM_THREADS=1 python benchmarks/checkpoints.py     a minute on two cores, 4 GB of memory
    python benchmarks/checkpoints.py --device cuda

It saves in turns as where memory is short (the step writes, hashes and flushes) and as usual (the step copies, a thread
does the rest), and prints the medians: 6.0 s and 0.47 s on two cores that others used, too.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from gptexp.checkpoints.checkpointer import Checkpointer
from gptexp.checkpoints.optimizer_state import OptimizerState
from gptexp.distributed.process_group import ProcessGroup
from gptexp.model import Transformer, TransformerConfig

GPT2 = TransformerConfig(
    vocab_size=50257,
    layers=12,
    d_model=768,
    heads=12,
    kv_heads=12,
    d_ff=3072,
    context=1024,
    feed_forward="gelu",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=GPT2.layers)
    args = parser.parse_args()
    config = TransformerConfig(**{**vars(GPT2), "layers": args.layers})
    with torch.device(args.device):
        model = Transformer(config)
    state = build_state(model)
    seconds: dict[str, list[float]] = {"written in the step": [], "copied in the step": []}
    written: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpointer = Checkpointer(Path(folder), ProcessGroup())
        for repeat in range(args.repeats):
            for number, name in enumerate(seconds):
                checkpointer.has_memory = name == "copied in the step"
                started = time.perf_counter()
                checkpointer.save(model, state, {"step": 2 * repeat + number}, {})
                seconds[name].append(time.perf_counter() - started)
                checkpointer.finish()
                written.append(time.perf_counter() - started)
    size = sum(tensor.nbytes for tensor in [*model.parameters(), *state.encode().tensors.values()])
    print(f"{size / 1e9:.2f} GB on {args.device}, seconds that the step waits:")
    for name, values in seconds.items():
        print(f"  {name:20} {statistics.median(values):7.3f}   {[round(v, 3) for v in values]}")
    print(
        f"  {'until it is complete':20} {statistics.median(written[1::2]):7.3f}   beside the steps"
    )


def build_state(model: nn.Module) -> OptimizerState:
    """Return the state of AdamW after a step."""
    optimizer = torch.optim.AdamW(model.parameters())
    state = OptimizerState(model, [optimizer])
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return state


if __name__ == "__main__":
    main()
