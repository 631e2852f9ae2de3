"""Kill a run with SIGKILL at random moments, resume it, and compare it with a run that was not killed.

    python benchmarks/chaos.py                          25 minutes on two cores
    python benchmarks/chaos.py --kills 3 --only alone   a short test

30 kills of one process, 10 of two processes under DDP, and 10 under FSDP2. A third of them come within 5 ms after a
checkpoint begins to be written, the others at any time between start and end. It prints a line for each kill and a
table. The exit code is 1 unless every resumed run has the same weights, optimizer state and metrics to the bit.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [
    "task=translate",
    "model=nano",
    "model.layers=2",
    "model.d_model=64",
    "model.heads=2",
    "model.dropout=0.1",
    "data.examples=2000",
    "task.test_examples=8",
    "trainer.max_steps=120",
    "trainer.global_batch_size=8",
    "trainer.micro_batch_size=2",
    "trainer.val_every=40",
    "trainer.log_every=1",
    "trainer.checkpoint_every=5",
    "trainer.accelerator=cpu",
    "logger=none",
]
SETUPS = {
    "alone": (30, []),
    "two processes, DDP": (10, ["trainer.devices=2"]),
    "two processes, FSDP2": (10, ["trainer.devices=2", "trainer.strategy=fsdp"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, help="instead of 30, 10 and 10")
    parser.add_argument("--only", choices=SETUPS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="gptexp-chaos-") as folder:
        os.chdir(folder)
        for name, (kills, more) in SETUPS.items():
            if args.only in (None, name):
                rows.append(
                    (name, *survive(name, args.kills or kills, more, random.Random(args.seed)))
                )
    print(
        "\n| run | kills | the same to the bit | kills while a checkpoint was written | last step before the kill |"
    )
    print("|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    if any(row[1] != row[2] for row in rows):
        sys.exit(1)


def survive(
    name: str, kills: int, more: list[str], rng: random.Random
) -> tuple[int, int, int, str]:
    """Return the numbers of kills, equal outcomes and kills while a checkpoint was written, and the steps reached."""
    started = time.monotonic()
    expected = outcome(finish("reference", more))
    length = time.monotonic() - started
    same, writing, reached = 0, 0, []
    for number in range(kills):
        shutil.rmtree("killed", ignore_errors=True)
        process = subprocess.Popen(
            command("killed", more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if number % 3 == 0:
            wait_for_checkpoint(process, skip=rng.randrange(20))
            time.sleep(rng.random() * 0.005)
        else:
            time.sleep(rng.random() * length)
        if process.poll() is None:
            ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for pid in (
                *map(int, ranks),
                process.pid,
            ):  # all at once; otherwise a rank ends with its parent
                os.kill(pid, signal.SIGKILL)
        process.wait()
        writing += bool(list(Path("killed").glob("*/checkpoints/.step-*.tmp")))
        step = max((row["step"] for row in metrics("killed")), default=0)
        reached.append(step)
        is_same = outcome(finish("killed", more)) == expected
        same += is_same
        verdict = "same" if is_same else "NOT the same"
        print(f"{name}: kill {number + 1} of {kills} after step {step}: {verdict}", flush=True)
    shutil.rmtree("reference")
    return kills, same, writing, f"{min(reached)} to {max(reached)}"


def command(outputs: str, more: list[str]) -> list[str]:
    return [sys.executable, "-m", "gptexp.run", *COMMAND, *more, f"outputs={outputs}"]


def finish(outputs: str, more: list[str]) -> Path:
    done = subprocess.run(command(outputs, more), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return Path(done.stdout.splitlines()[-1])


def wait_for_checkpoint(process: subprocess.Popen[bytes], skip: int) -> None:
    seen: set[str] = set()
    while process.poll() is None and len(seen) <= skip:
        seen |= {path.name for path in Path("killed").glob("*/checkpoints/.step-*.tmp")}


def metrics(outputs: str) -> list[dict[str, float]]:
    rows = []
    for file in Path(outputs).glob("*/metrics.jsonl"):
        for line in file.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def outcome(folder: Path) -> tuple[str, str, str]:
    """Return the sha256 of weights, of the optimizer, and of metrics.jsonl without the seconds."""
    last = folder / "checkpoints" / (folder / "checkpoints" / "last").read_text().strip()
    rows = [
        {key: value for key, value in row.items() if key != "seconds" and "speed/" not in key}
        for row in metrics(str(folder.parent))
    ]
    tensors = [
        hashlib.sha256((last / f"{kind}.safetensors").read_bytes()).hexdigest()
        for kind in ("model", "optimizer")
    ]
    return tensors[0], tensors[1], hashlib.sha256(json.dumps(rows).encode()).hexdigest()


if __name__ == "__main__":
    main()
