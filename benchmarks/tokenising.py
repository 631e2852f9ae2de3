"""gptexp tokenize, killed at random times and continued, writes the store of a process that nobody stops.

    python benchmarks/tokenising.py [--megabytes 32] [--kills 5]      about two minutes on two cores

Prints the CPU seconds of one process for a megabyte of text, and whether the killed processes end with the same store.
The texts are the sources of the standard library, the tokenizer is that of base.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gptexp.config.base_weights import FOLDER

CHARACTERS = 4000  # of a text


def write_texts(path: Path, size: int) -> None:
    with path.open("w") as lines:
        for file in sorted(Path(os.__file__).parent.rglob("*.py")):
            text = file.read_text("utf8", "ignore")
            for start in range(0, len(text), CHARACTERS):
                lines.write(json.dumps({"text": text[start : start + CHARACTERS]}) + "\n")
            if lines.tell() > size:
                return


def start(texts: Path, store: Path, workers: int) -> subprocess.Popen[bytes]:
    words = ["data=files", f"data.path={texts}", "tokenizer=hf", f"tokenizer.name={FOLDER}"]
    options = ["--to", str(store), "--workers", str(workers)]
    command = [sys.executable, "-m", "gptexp.tokenize", *words, *options]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)


def read_fingerprint(store: Path) -> str:
    return json.loads((store / "meta.json").read_text())["fingerprint"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=32)
    parser.add_argument("--kills", type=int, default=5)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    texts, expected, killed = (folder / name for name in ("texts.jsonl", "expected", "killed"))
    try:
        write_texts(texts, args.megabytes << 20)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        began = time.monotonic()
        if start(texts, expected, 1).wait():
            sys.exit("the first process failed")
        wall, cpu = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        size = texts.stat().st_size / 1e6
        print(
            f"one process: {size:.0f} MB in {cpu.ru_utime:.1f} s of CPU, start included, "
            f"{cpu.ru_maxrss / 1024:.0f} MiB"
        )
        rng, kills = random.Random(0), 0
        while not (killed / "meta.json").exists():
            process = start(texts, killed, 2)
            try:
                process.wait(rng.uniform(0.2, 0.9) * wall if kills < args.kills else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)  # its helpers end after their part
                process.wait()
                kills += 1
                parts = len(list((killed / "parts").glob("*.json")))
                print(f"kill -9 number {kills}: {parts} parts are done")
        is_same = read_fingerprint(killed) == read_fingerprint(expected)
        print(f"killed {kills} times: {'the same store' if is_same else 'ANOTHER STORE'}")
        sys.exit(not is_same)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
