"""Train on the characters of Shakespeare with nanoGPT's recipe for a CPU and with experiment=shakespeare, in turns.

    python benchmarks/shakespeare.py --nanogpt nanoGPT --shakespeare input.txt

A run of nanoGPT takes two minutes on two cores. Its loss is a mean over 20 random batches; that of gptexp is over the
whole validation split.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.append(str(Path(__file__).parent / "gpu_parts"))
from nanogpt import prepare_characters

STEPS = 2000  # of nanoGPT
NANOGPT = (
    "train.py config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1 "
    "--block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --dropout=0.0 "
    f"--max_iters={STEPS} --lr_decay_iters={STEPS}"
)
HEADER = "| program | loss | training, s | in all, s | in all, CPU s |\n|---|---|---|---|---|"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    parser.add_argument("--shakespeare", type=Path, required=True, help="the text of char-rnn")
    parser.add_argument("--runs", type=int, default=2, help="runs of each program (2)")
    options = parser.parse_args()
    print(HEADER)
    for seed in range(1, options.runs + 1):
        with tempfile.TemporaryDirectory(prefix="shakespeare-") as name:
            folder = Path(name)
            run_nanogpt(options.nanogpt, options.shakespeare, folder / "nanoGPT")
            run_gptexp(options.shakespeare.resolve(), folder, seed)


def run_nanogpt(checkout: Path, text: Path, folder: Path) -> None:
    ignored = shutil.ignore_patterns(".git", "*.bin", "out*")
    shutil.copytree(checkout, folder, ignore=ignored, copy_function=shutil.copyfile)
    prepare_characters(text.read_text("utf8"), folder / "data/shakespeare_char")
    output, seconds, cpu_seconds = execute(folder, *NANOGPT.split())
    losses = [float(loss) for loss in re.findall(r"val loss ([\d.]+)", output)]
    times = [float(time) for time in re.findall(r"iter \d+: loss [\d.]+, time ([\d.]+)ms", output)]
    # The times of some steps include an evaluation.
    print_row("nanoGPT", losses[-1], STEPS * median(times) / 1000, seconds, cpu_seconds)


def run_gptexp(text: Path, folder: Path, seed: int) -> None:
    words = ["-m", "gptexp.run", "experiment=shakespeare", f"data.path={text}", f"seed={seed}"]
    output, seconds, cpu_seconds = execute(folder, *words, "logger=none", "cache=cache")
    run = folder / output.splitlines()[-1]
    result = json.loads((run / "result.json").read_text())
    loss = result["metrics"]["val/loss"]
    print_row("gptexp", loss, result["train_seconds"], seconds, cpu_seconds)


def execute(folder: Path, *words: str) -> tuple[str, float, float]:
    """Run Python with these words in a folder; return its output, its seconds and its CPU seconds."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ, stdout=subprocess.PIPE, text=True
    )
    if process.returncode:
        sys.exit(f"{' '.join(words)}: exit code {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return process.stdout, time.monotonic() - started, cpu_seconds


def print_row(program: str, loss: float, training: float, seconds: float, cpu: float) -> None:
    print(f"| {program} | {loss:.3f} | {training:.1f} | {seconds:.1f} | {cpu:.1f} |", flush=True)


if __name__ == "__main__":
    main()
