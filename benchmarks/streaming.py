"""Train from token stores on a web server: the start, memory and waiting with 1 and 50 GB; and runs that are killed.

    python benchmarks/streaming.py                          10 minutes on two cores
    python benchmarks/streaming.py --only kills --ranks 2   a run of two ranks that is killed 10 times

The server computes its shards from a few blocks of random tokens, so that 50 GB need no disk, and answers each request
after --latency. The table of runs has the seconds from the command to the end of the first step, the largest resident
memory of the process, the share of the time in which steps waited for data (speed/data_share), the steps that spent
more than a twentieth of their time on it, and what the server sent. The runs that are killed lose their cache at some
kills, and the server closes a twentieth of the connections without an answer. The exit code is 1 unless they end with
the same weights, optimizer state and metrics to the bit as a run that was not killed.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np

from gptexp.config import compose
from gptexp.data.shards import BLOCK_BYTES, SHARD_TOKENS, block_digest
from gptexp.files import dumps_with_checksum, loads_checked, sha256
from gptexp.tasks.prepare import prepare

STORES = {"1 GB": 4, "50 GB": 187}  # shards of 256 MiB
PATTERNS = 61  # different blocks
TASK = ["task=pretrain", "tokenizer=byte"]
COMMAND = [
    *TASK,
    "data=tokens",
    "model=nano",
    "model.context=256",
    "trainer.global_batch_size=16",
    "trainer.log_every=1",
    "trainer.val_tokens=4096",
    "task.test_examples=4",
    "trainer.progress=false",
    "trainer.accelerator=cpu",
    "logger=none",
]
KILLED = [
    "model.layers=2",
    "model.d_model=64",
    "model.heads=2",
    "model.context=64",
    "model.dropout=0.1",
    "trainer.max_steps=60",
    "trainer.val_every=30",
    "trainer.checkpoint_every=3",
]
FAILURES = 0.05  # of the answers, to the runs that are killed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=("table", "kills"))
    parser.add_argument("--steps", type=int, default=300, help="of each run of the table")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before each answer")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="of the killed runs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    is_same = True
    with tempfile.TemporaryDirectory(prefix="gptexp-streaming-") as folder:
        os.chdir(folder)
        build_small_store()
        with serve(args.latency) as url:
            if args.only != "kills":
                print_table(url, args.steps)
            if args.only != "table":
                rng = random.Random(args.seed)
                outcomes = [survives(url, ranks, args.kills, rng) for ranks in args.ranks]
                is_same = all(outcomes)
    sys.exit(0 if is_same else 1)


def build_small_store() -> None:
    """Build the store that gives the served ones their tokenizer and held-out splits, in the folder `small`."""
    rng = random.Random(0)
    lines = (" ".join(f"w{rng.randrange(500)}" for _ in range(12)) for _ in range(4000))
    Path("text.txt").write_text("\n".join(lines))
    words = [*TASK, "data=files", "data.path=text.txt", "data.split=exact", "cache=cache"]
    shutil.copytree(prepare(compose.compose_config(words)).store.folder, "small")


def make_pattern(number: int) -> bytes:
    """Return the tokens of a block."""
    tokens = np.random.default_rng(number).integers(0, 256, BLOCK_BYTES // 2)
    return tokens.astype("<u2").tobytes()


def find_pattern(shard: int, block: int) -> int:
    """Return which pattern a block has."""
    return (shard * 31 + block * 17) % PATTERNS


def describe_store(num_shards: int, patterns: list[bytes]) -> dict[str, bytes]:
    """Return meta.json and train.sums of a store with so many shards."""
    digests = [block_digest(pattern) for pattern in patterns]
    blocks = SHARD_TOKENS * 2 // BLOCK_BYTES
    sums = b"".join(
        digests[find_pattern(shard, block)]
        for shard in range(num_shards)
        for block in range(blocks)
    )
    meta = loads_checked(Path("small/meta.json").read_text())
    names = [f"train-{shard:05}.tokens" for shard in range(num_shards)]
    meta["shards"]["train"] = [{"file": name, "tokens": SHARD_TOKENS} for name in names]
    tokens = num_shards * SHARD_TOKENS
    meta["splits"]["train"] |= {"tokens": tokens, "targets": tokens, "bytes": tokens}
    meta["files"] |= dict.fromkeys(names, "unused: blocks are verified by their digests")
    del meta["files"]["train.tokens"]
    meta["files"]["train.sums"] = hashlib.sha256(sums).hexdigest()
    meta["fingerprint"] = meta["content"] = f"{num_shards} shards"
    return {"meta.json": dumps_with_checksum(meta).encode(), "train.sums": sums}


class QuietServer(ThreadingHTTPServer):
    request_queue_size = (
        512  # connections that come at once: a shorter queue lets them wait for seconds
    )

    def handle_error(self, *_: Any) -> None:
        """Say nothing of connections that a killed run has left open."""


def run_server(latency: float, port: Any) -> None:
    """Serve /SHARDS/... and, with failures, /failing/SHARDS/...; /sent returns the requests and bytes so far."""
    patterns = [make_pattern(number) for number in range(PATTERNS)]
    stores = {shards: describe_store(shards, patterns) for shards in STORES.values()}
    sent = {"requests": 0, "bytes": 0}
    rng = random.Random(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if self.path == "/sent":
                return self.answer(json.dumps(sent).encode())
            time.sleep(latency)
            *failing, shards, name = self.path.strip("/").split("/")
            if failing and rng.random() < FAILURES:
                self.close_connection = True
                return None
            if shard := re.fullmatch(r"train-(\d+)\.tokens", name):
                return self.answer_shard(int(shard[1]))
            content = stores[int(shards)].get(name) or Path("small", name).read_bytes()
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if match is None:
                return self.answer(content)
            return self.answer(content[int(match[1]) : int(match[2]) + 1], 206)

        def answer_shard(self, shard: int) -> None:
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if match is None:
                return self.answer(b"", size=SHARD_TOKENS * 2)
            start, end = int(match[1]), int(match[2]) + 1
            first, last = start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
            content = b"".join(
                patterns[find_pattern(shard, block)] for block in range(first, last + 1)
            )
            content = content[start - first * BLOCK_BYTES :][: end - start]
            sent["requests"] += 1
            sent["bytes"] += len(content)
            return self.answer(content, 206)

        def answer(self, content: bytes, status: int = 200, size: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) if size is None else size))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = QuietServer(("127.0.0.1", 0), Handler)
    port.value = server.server_port
    server.serve_forever()


@contextmanager
def serve(latency: float) -> Iterator[str]:
    """Run the server in a process of its own; yield its address."""
    port = multiprocessing.Value("i", 0)
    process = multiprocessing.Process(target=run_server, args=(latency, port), daemon=True)
    process.start()
    while port.value == 0:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port.value}"
    process.terminate()


def print_table(url: str, steps: int) -> None:
    more = [f"trainer.max_steps={steps}", f"trainer.val_every={steps}"]
    print(
        "| tokens | first step after | peak memory | waiting for data | steps that waited | requests | MB sent | "
        "MB of the steps |\n|---|---|---|---|---|---|---|---|"
    )
    print_row("on this disk, 0.4 MB", "data.path=small", more, url, cache="local")
    for name, shards in STORES.items():
        print_row(name, f"data.path={url}/{shards}", more, url, cache=name)
    print_row(f"{name}, cached before", f"data.path={url}/{shards}", more, url, cache=name)


def print_row(name: str, path: str, more: list[str], url: str, cache: str) -> None:
    """Run a training and print its row."""
    shutil.rmtree("runs", ignore_errors=True)
    before = json.load(urlopen(f"{url}/sent"))
    started = time.monotonic()
    process = start("runs", [path, *more], cache)
    while not (rows := read_metrics("runs")) and process.poll() is None:
        time.sleep(0.01)
    first = time.monotonic() - started
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{name}: {Path('messages.txt').read_text()[-2000:]}")
    sent = {key: value - before[key] for key, value in json.load(urlopen(f"{url}/sent")).items()}
    rows = [row for row in read_metrics("runs") if "speed/step_ms" in row]
    shares = [row.get("speed/data_share", 0.0) for row in rows]
    times = [row["speed/step_ms"] for row in rows]
    waiting = np.average(shares, weights=times)
    waited = [row["step"] for row, share in zip(rows, shares, strict=True) if share > 0.05]
    used = 2 * 16 * 257 * len(rows) / 1e6
    print(
        f"| {name} | {first:.1f} s | {usage.ru_maxrss / 1024:.0f} MiB | {waiting:.2%} | "
        f"{waited or 'none'} of {len(rows)} | "
        f"{sent['requests']} | {sent['bytes'] / 1e6:.1f} | {used:.1f} |",
        flush=True,
    )


def survives(url: str, ranks: int, kills: int, rng: random.Random) -> bool:
    """Kill a run at random and continue it; return whether it ends as one that was not killed."""
    words = [*KILLED, f"data.path={url}/failing/{STORES['1 GB']}", f"trainer.devices={ranks}"]
    assert start("reference", words, "cache-reference").wait() == 0
    reached = []
    for _ in range(kills):
        if rng.random() < 0.3:
            shutil.rmtree("cache-killed", ignore_errors=True)
        process = start("killed", words, "cache-killed")
        target = last_step("killed") + rng.randint(1, 8)
        while process.poll() is None and last_step("killed") < target:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reached.append(last_step("killed"))
    assert start("killed", words, "cache-killed").wait() == 0
    is_same = summarize("killed") == summarize("reference")
    verdict = "ended as if never interrupted" if is_same else "ended DIFFERENTLY"
    print(f"{ranks} rank(s): killed {kills} times, after steps {reached}: {verdict}", flush=True)
    for folder in ("reference", "killed"):
        shutil.rmtree(folder)
    return is_same


def start(outputs: str, words: list[str], cache: str) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gptexp.run",
            *COMMAND,
            *words,
            f"outputs={outputs}",
            f"cache={cache}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=Path("messages.txt").open("wb"),
        start_new_session=True,
    )


def read_metrics(outputs: str) -> list[dict[str, float]]:
    rows = []
    for file in Path(outputs).glob("*/metrics.jsonl"):
        for line in file.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:  # it is being written
                break
    return rows


def last_step(outputs: str) -> int:
    return int(max((row["step"] for row in read_metrics(outputs)), default=0))


def summarize(outputs: str) -> tuple[list[dict[str, float]], list[str]]:
    """Return the metrics of a run without timings, and the hashes of the last checkpoint."""
    rows = [
        {key: value for key, value in row.items() if key != "seconds" and "speed/" not in key}
        for row in read_metrics(outputs)
    ]
    [last] = sorted(Path(outputs).glob("*/checkpoints/step-*"))[-1:]
    names = ("model.safetensors", "optimizer.safetensors", "optimizer.json")
    return rows, [sha256(last / name) for name in names]


if __name__ == "__main__":
    main()
