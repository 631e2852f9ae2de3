"""Host memory of a rank that starts a large model with trainer.strategy=fsdp.

    python benchmarks/large_model.py                    # 8 B parameters as rank 1 of 64: a minute on one core
    python benchmarks/large_model.py --files            # the same, with weights from files
    python benchmarks/large_model.py --layers 4 --ranks 2 --real    # two processes over gloo

Other ranks are pretended, but for --real: torch's fake process group exchanges nothing. The model is built on the meta
device, sharded, and filled as in a run. Prints the bytes of the shard, and the peak of the process beyond what torch
itself takes: 0.5 and 0.9 GB for 8 B parameters and 64 ranks (from files 0.8 GB), 2.5 and 3.3 GB for 1.3 B and two.
"""

import argparse
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.testing._internal.distributed.fake_pg import FakeStore

from gptexp.config.schema import TrainerConfig
from gptexp.distributed.deferred_init import DeferredWeights
from gptexp.distributed.process_group import ProcessGroup
from gptexp.distributed.sharding import local_tensor, open_tensors
from gptexp.distributed.strategies import build_mesh, shard_model
from gptexp.model import Transformer, TransformerConfig

# The shape of Llama 3.1 8B (arXiv 2407.21783).
SHAPE = {"d_model": 4096, "heads": 32, "kv_heads": 8, "d_ff": 14336, "vocab_size": 128256}
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--files", action="store_true", help="read the weights from a file")
    parser.add_argument("--real", action="store_true", help="start all ranks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.files:
            with torch.device("meta"):
                write_holes(Path(folder), build(options.layers))
        ranks = range(options.ranks) if options.real else [1]
        arguments = (folder, options)
        mp.start_processes(start_rank, arguments, len(ranks), start_method="spawn")


def start_rank(index: int, folder: str, options: argparse.Namespace) -> None:
    rank = index if options.real else 1
    torch.set_num_threads(1)
    group = ProcessGroup(rank, options.ranks, rank, options.ranks)
    if options.real:
        store = dist.FileStore(f"{folder}/store", options.ranks)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=options.ranks)
    else:
        store = FakeStore()
        dist.init_process_group("fake", store=store, rank=rank, world_size=options.ranks)
    config = TrainerConfig(strategy="fsdp")
    mesh = build_mesh(config, group, CPU)
    before, start = peak_memory(), time.monotonic()
    deferred = DeferredWeights(seed=0)
    with deferred.construction():
        model = build(options.layers)
    assert deferred.can_fill(model)
    if options.files:
        deferred.stored = open_tensors(Path(folder), "model")
    deferred.materialize(model, CPU, partial(shard_model, model, mesh, config))
    shard = sum(local_tensor(p).nbytes for p in model.parameters())
    more, seconds = peak_memory() - before, time.monotonic() - start
    count = sum(p.numel() for p in model.parameters())
    print(
        f"rank {rank} of {options.ranks}: {count / 1e9:.2f} B parameters, shard {shard / 1e9:.3f} GB, "
        f"peak {more / 1e9:.3f} GB more than before, {seconds:.0f} s",
        flush=True,
    )


def build(layers: int) -> Transformer:
    return Transformer(
        TransformerConfig(layers=layers, context=8192, tie_embeddings=False, **SHAPE)
    )


def peak_memory() -> int:
    """Return the largest number of bytes that this process has had in memory, pages of files included."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def write_holes(folder: Path, model: Transformer) -> None:
    """Write a file of bf16 zeros for the parameters of a model, without taking room on the disk."""
    header, end = {}, 0
    for name, parameter in model.named_parameters():
        start, end = end, end + 2 * parameter.numel()
        shape = list(parameter.shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        os.truncate(file.fileno(), 8 + len(text) + end)


if __name__ == "__main__":
    main()
