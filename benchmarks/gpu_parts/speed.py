"""The speed and the memory of `gptexp run` at the shapes of GPT-2.

    python benchmarks/gpu.py --only gpt2-muon

The run is killed once enough steps are logged: it does not validate, and saves only with --checkpoints. Words that
follow the options are settings of the run.
"""

import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import SEED, Part

from gptexp.checkpoints.load_model import build_model
from gptexp.config import compose
from gptexp.distributed.hardware import GIB
from gptexp.model.memory import estimate_memory
from gptexp.runs import timings

VOCABULARY = 50_257
TOY_VOCABULARY = 512


@dataclass(frozen=True)
class Size:
    """How a model is measured: the sequences of a step on each device, and how many steps count."""

    sequences: int
    micro_batch: int
    log_every: int
    warm_up_steps: int
    measured_steps: int


SIZES = {
    "gpt2": Size(32, 32, 5, 20, 40),
    # Muon's iteration takes the same time whatever the batch: 64 sequences are still an eighth of GPT-2's.
    "gpt2-xl": Size(64, 8, 2, 6, 10),
}
WITH_CHECKPOINTS = Size(
    32, 32, 5, 120, 200
)  # the first one, which allocates memory for copies, does not count
TOY_SIZE = Size(4, 2, 5, 20, 10)
CHECKPOINT_EVERY, TOY_CHECKPOINT_EVERY = 100, 10
TOY = [
    "model.layers=2",
    "model.d_model=64",
    "model.heads=2",
    "model.context=64",
    f"model.vocab_size={TOY_VOCABULARY}",
]
CHARACTERS = 4_000_000
FOREVER = 1_000_000  # steps


def main() -> None:
    part = Part(
        __doc__,
        ("--size", {"choices": SIZES, "default": "gpt2"}),
        ("--preset", {"choices": ("gpt2", "modern"), "default": "gpt2"}),
        ("--optim", {"choices": ("adamw", "muon"), "default": "muon"}),
        ("--checkpoints", {"action": "store_true"}),
    )
    options = part.options
    size = WITH_CHECKPOINTS if options.checkpoints else SIZES[options.size]
    size = TOY_SIZE if options.toy else size
    with tempfile.TemporaryDirectory(prefix="gptexp-speed-") as name:
        folder = Path(name)
        write_text(folder / "text.txt", CHARACTERS // (40 if options.toy else 1))
        words = run_words(options, size, folder)
        started = time.monotonic()
        lines = size.measured_steps // size.log_every
        rows = part.watch_run(
            *words,
            outputs=folder,
            is_reached=lambda rows: len(rows_with_speed(rows, size)) >= lines,
        )
        seconds = time.monotonic() - started
    measured = rows_with_speed(rows, size)
    step_ms = statistics.median(row[timings.STEP_MS] for row in measured)
    tokens = statistics.median(row[timings.TOKENS_PER_SECOND] for row in measured)
    part.report("step", step_ms, "ms")
    part.report("speed", tokens / options.ranks, "tokens/s a device")
    for key, figure, unit in (
        (timings.MFU, "MFU", ""),
        (timings.TFLOPS, "speed of the model's operations", "TFLOP/s a device"),
    ):
        if key in measured[-1]:
            part.report(figure, statistics.median(row[key] for row in measured), unit)
    part.report("peak memory", measured[-1][timings.PEAK_MEMORY], "GiB")
    if options.ranks == 1:
        part.report("peak memory by model/memory.py", predict_memory(part, words) / GIB, "GiB")
    part.report_lost_time(measured)
    part.report_compilation(measured[-1])
    part.report("training until the first line of metrics.jsonl", rows[0]["seconds"], "s")
    part.report("from the command to the last measured step", seconds, "s")


def run_words(options: Any, size: Size, folder: Path) -> list[str]:
    """Return the settings of the run: the defaults, but for what is measured and what would take time."""
    checkpoint_every = FOREVER
    if options.checkpoints:
        checkpoint_every = TOY_CHECKPOINT_EVERY if options.toy else CHECKPOINT_EVERY
    return [
        "task=pretrain",
        f"model={options.size}",
        f"model.preset={options.preset}",
        f"optim={options.optim}",
        f"seed={SEED}",
        "data=files",
        f"data.path={folder / 'text.txt'}",
        "data.split=tail",
        "tokenizer=byte",
        *(TOY if options.toy else [f"model.vocab_size={VOCABULARY}"]),
        f"trainer.global_batch_size={size.sequences * options.ranks}",
        f"trainer.micro_batch_size={size.micro_batch}",
        f"trainer.log_every={size.log_every}",
        f"trainer.max_steps={FOREVER}",
        f"trainer.val_every={FOREVER}",
        f"trainer.checkpoint_every={checkpoint_every}",
    ]


def rows_with_speed(rows: list[dict[str, Any]], size: Size) -> list[dict[str, Any]]:
    """Return the rows after the first steps, which compile and allocate."""
    return [row for row in rows if row["step"] > size.warm_up_steps and timings.STEP_MS in row]


def write_text(path: Path, characters: int) -> None:
    """Write random sentences. As bytes they are a part of the vocabulary, which changes no speed."""
    rng = random.Random(SEED)
    words = [
        "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5000)
    ]
    lines = [" ".join(rng.choices(words, k=16)) + "." for _ in range(characters // 100)]
    path.write_text("\n".join(lines))


def predict_memory(part: Part, words: list[str]) -> int:
    """Return the bytes that model/memory.py counts for a step."""
    config = compose.compose_config([*words, *part.words])
    with torch.device("meta"):
        shape = build_model(config, num_tokens=0).config
    trainer, is_on_gpu = config.trainer, part.options.device == "cuda"
    batch = trainer.micro_batch_size or trainer.global_batch_size
    memory = estimate_memory(
        shape,
        batch,
        shape.context,
        optimizer=part.options.optim,
        bf16=is_on_gpu,
        activation_checkpointing=trainer.activation_checkpointing,
        on_gpu=is_on_gpu,
        accumulates=batch < trainer.global_batch_size,
    )
    return memory.total


if __name__ == "__main__":
    main()
