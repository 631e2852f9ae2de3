"""nanoGPT on the same device: its bench.py at the shape of GPT-2, or its training on the characters of Shakespeare.

    python benchmarks/gpu.py --only nanogpt --nanogpt FOLDER
    python benchmarks/gpu.py --only nanogpt-shakespeare --nanogpt FOLDER --shakespeare FILE

It runs in a copy of the folder. At toy size, the copy is made smaller and runs without torch.compile.
"""

import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import Part

BATCH = 32
STEPS = 2000
TRAIN_FRACTION = 0.9
TOY_SHAPE = ("n_layer = 12, n_head = 12, n_embd = 768", "n_layer = 2, n_head = 2, n_embd = 32")
ON_CPU = "import torch\ntorch.cuda.synchronize = lambda: None\n"  # bench.py calls it on any device


def main() -> None:
    part = Part(
        __doc__,
        ("--nanogpt", {"type": Path, "required": True}),
        ("--shakespeare", {"type": Path, "help": "train on this text instead of bench.py"}),
    )
    with tempfile.TemporaryDirectory(prefix="nanogpt-") as name:
        folder = Path(name) / "nanoGPT"
        shutil.copytree(
            part.options.nanogpt, folder, ignore=shutil.ignore_patterns(".git", "*.bin", "out*")
        )
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
        if part.options.shakespeare:
            train_on_characters(part, folder)
        else:
            bench(part, folder)


def bench(part: Part, folder: Path) -> None:
    words = ["--real_data=False", f"--batch_size={BATCH}"]
    if part.options.toy:
        words = ["--real_data=False", "--batch_size=1", "--block_size=32", "--compile=False"]
        source = (folder / "bench.py").read_text().replace(*TOY_SHAPE)
        (folder / "bench.py").write_text((ON_CPU if part.options.device == "cpu" else "") + source)
    output = execute(part, folder, "bench.py", *words)
    found = re.search(r"time per iteration: ([\d.]+)ms, MFU: ([\d.]+)%", output)
    if found is None:
        sys.exit("bench.py printed no time per iteration")
    step_ms = float(found[1])
    tokens = 32 if part.options.toy else BATCH * 1024
    part.report("step", step_ms, "ms")
    part.report("speed", 1000 * tokens / step_ms, "tokens/s a device")
    part.report("MFU of an A100, by nanoGPT", float(found[2]) / 100)


def train_on_characters(part: Part, folder: Path) -> None:
    prepare_characters(part.options.shakespeare.read_text("utf8"), folder / "data/shakespeare_char")
    steps = 20 if part.options.toy else STEPS
    words = [f"--max_iters={steps}", f"--lr_decay_iters={steps}"]
    if part.options.toy:
        words += ["--n_layer=2", "--n_head=2", "--n_embd=32", "--block_size=32", "--batch_size=4"]
        words += ["--eval_iters=2", "--eval_interval=10", "--warmup_iters=2", "--compile=False"]
    started = time.monotonic()
    output = execute(part, folder, "train.py", "config/train_shakespeare_char.py", *words)
    part.report("from the command to its end", time.monotonic() - started, "s")
    losses = [float(loss) for loss in re.findall(r"val loss ([\d.]+)", output)]
    times = [float(time) for time in re.findall(r"iter \d+: loss [\d.]+, time ([\d.]+)ms", output)]
    part.report("lowest validation loss", min(losses))
    part.report("steps", steps)
    part.report("step", float(np.median(times)), "ms")


def prepare_characters(text: str, folder: Path) -> None:
    """Write the files that train.py reads, without the packages that prepare.py imports."""
    characters = sorted(set(text))
    number = {character: index for index, character in enumerate(characters)}
    tokens = np.array([number[character] for character in text], np.uint16)
    cut = int(TRAIN_FRACTION * len(tokens))
    folder.mkdir(parents=True, exist_ok=True)
    tokens[:cut].tofile(folder / "train.bin")
    tokens[cut:].tofile(folder / "val.bin")
    meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": number}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def execute(part: Part, folder: Path, *words: str) -> str:
    """Run a script of nanoGPT in its folder; print and return its output."""
    options = [f"--device={part.options.device}"]
    if part.options.device == "cpu":
        options.append("--dtype=float32")
    process = subprocess.run(
        [sys.executable, *words, *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(process.stdout, flush=True)
    if process.returncode:
        sys.exit(f"{words[0]} of nanoGPT: exit code {process.returncode}")
    return process.stdout


if __name__ == "__main__":
    main()
