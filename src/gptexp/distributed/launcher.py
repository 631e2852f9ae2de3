"""Start one process a device on this machine, watch them, and say once what went wrong.

Why not torchrun's agent: it takes three seconds to start, kills ranks that are about to save, and prints a page of its
own before the traceback that matters. Under torchrun or SLURM nothing is started here: the ranks are there already.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from gptexp.distributed.signals import WATCHED
from gptexp.errors import OutOfMemoryError, Preempted, RunError
from gptexp.machine import available_cpus

PARENT = "GPTEXP_PARENT"  # tells a rank whose child it is
KILLED = -signal.SIGKILL  # by the system, which is short of memory
GRACE = 5.0  # seconds that the other ranks have to fail by themselves when one has


def launch(folder: Path, devices: int) -> None:
    """Run `python -m gptexp.training.fit FOLDER` on every device until all have ended.

    Raises:
        RunError: a rank failed; the message is its traceback.
        Stopped: all have saved and ended after a signal.
    """
    while True:
        code = _run_once(folder, devices)
        if code != OutOfMemoryError.code:
            break
        print("starting again from the last checkpoint with smaller micro-batches", file=sys.stderr)
    if code == Preempted.code:
        raise Preempted("a signal")
    if code:
        raise RunError(_first_failure(folder, code))


def _run_once(folder: Path, devices: int) -> int:
    for old in folder.glob("failure-*.json"):
        old.unlink()
    port = _free_port()
    ranks = [_start(folder, rank, devices, port) for rank in range(devices)]
    asked = 0

    def forward(number: int, _: object) -> None:
        nonlocal asked
        asked += 1
        at_once = number == signal.SIGINT and asked > 1
        _tell(ranks, signal.SIGKILL if at_once else number)
        if at_once:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            print(
                "finishing the step, then saving; Ctrl-C again stops at once",
                file=sys.stderr,
                flush=True,
            )

    before = {number: signal.signal(number, forward) for number in WATCHED}
    try:
        code = _wait(ranks)
        # A rank may have got the signal before it watched for it; and what asks to stop is not started again.
        return (
            Preempted.code
            if asked and (-code in WATCHED or code == OutOfMemoryError.code)
            else code
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _tell(ranks, signal.SIGKILL)


def _start(folder: Path, rank: int, ranks: int, port: int) -> subprocess.Popen[bytes]:
    threads = os.environ.get("OMP_NUM_THREADS") or max(1, available_cpus() // ranks)
    place = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": ranks,
        "LOCAL_WORLD_SIZE": ranks,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": threads,
        PARENT: os.getpid(),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "gptexp.training.fit", str(folder)],
        env={**os.environ, **{name: str(value) for name, value in place.items()}},
        start_new_session=True,  # Ctrl-C comes to us alone, and we pass it on
        stderr=None
        if rank == 0
        else subprocess.DEVNULL,  # a failure is told in a file, not on the screen
    )


def _wait(ranks: list[subprocess.Popen[bytes]]) -> int:
    """The exit code of the rank that failed first, else 0; the others get GRACE seconds to end as well.

    What memory did to one rank comes first: the others fail at once, since they have lost it.
    """
    first, deadline = 0, float("inf")
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline:
        if not first and (first := next((rank.returncode for rank in ranks if rank.returncode), 0)):
            deadline = time.monotonic() + GRACE
        time.sleep(0.05)
    codes = [rank.returncode for rank in ranks if rank.returncode]
    return next(
        (code for code in (OutOfMemoryError.code, KILLED) if code in codes),
        first or next(iter(codes), 0),
    )


def _tell(ranks: list[subprocess.Popen[bytes]], number: int) -> None:
    for rank in ranks:
        if rank.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(rank.pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_failure(folder: Path, rank: int, text: str) -> None:
    """Called by a rank that fails."""
    record = {"time": time.time(), "rank": rank, "text": text}
    (folder / f"failure-{rank}.json").write_text(json.dumps(record))


def _first_failure(folder: Path, code: int) -> str:
    failures = [json.loads(path.read_text()) for path in folder.glob("failure-*.json")]
    for path in folder.glob("failure-*.json"):
        path.unlink()
    if failures and code != KILLED:
        first = min(failures, key=lambda failure: failure["time"])
        return f"rank {first['rank']} failed first:\n{first['text']}"
    if code < 0:
        hint = " (the system may have run out of memory)" if code == KILLED else ""
        return f"a rank was ended by {signal.Signals(-code).name}{hint}"
    return f"a rank ended with exit code {code}"
