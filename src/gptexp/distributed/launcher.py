"""Launcher: start one process a device on this machine, wait for all, and report the first failure once.

It replaces torchrun's agent, which takes three seconds to start, kills ranks that are about to save, and prints a page
of its own above the traceback. Under torchrun or SLURM the ranks exist already, and this file is not used.
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

from gptexp.distributed.signals import STOP_SIGNALS, print_first_interrupt
from gptexp.errors import OutOfMemoryError, Preempted, RunError
from gptexp.machine import available_cpus

PARENT = "GPTEXP_PARENT"  # environment variable with the launcher's process id
KILLED = -signal.SIGKILL  # exit code of a rank that the system ends when memory is short
RESTART = "out of memory: starting again from the last checkpoint with smaller micro-batches"
GRACE_SECONDS = 5.0  # in which the other ranks may end by themselves after the first failure


def launch(folder: Path, devices: int) -> None:
    """Run `python -m gptexp.training.rank FOLDER` once a device until all processes have ended.

    Raises:
        RunError: a rank failed; the message has its traceback.
        Preempted: all ranks saved and ended after a signal, or since data are missing for a while.
    """
    started = time.time()
    while (code := _run_ranks(folder, devices)) == OutOfMemoryError.code:
        print(RESTART, file=sys.stderr)
    if code == Preempted.code:
        raise Preempted(_read_stop(folder, started) or "a signal")
    if code:
        raise RunError(_read_first_failure(folder, code))


def _run_ranks(folder: Path, devices: int) -> int:
    """Start all ranks, forward signals to them, and return the exit code that stands for all."""
    for old in folder.glob("failure-*.json"):
        old.unlink()
    port = _free_port()
    ranks = [_start_rank(folder, rank, devices, port) for rank in range(devices)]
    signals_received = 0

    def forward(number: int, _: object) -> None:
        nonlocal signals_received
        signals_received += 1
        if number == signal.SIGINT and signals_received > 1:
            _signal_all(ranks, signal.SIGKILL)
            raise KeyboardInterrupt
        _signal_all(ranks, number)
        if number == signal.SIGINT:
            print_first_interrupt()

    before = {number: signal.signal(number, forward) for number in STOP_SIGNALS}
    try:
        code = _wait(ranks)
        # A signal may end a rank before it handles signals; and a run that is asked to stop does not start again.
        ended_by_signal = -code in STOP_SIGNALS or code == OutOfMemoryError.code
        return Preempted.code if signals_received and ended_by_signal else code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _signal_all(ranks, signal.SIGKILL)


def _start_rank(folder: Path, rank: int, ranks: int, port: int) -> subprocess.Popen[bytes]:
    environment = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": ranks,
        "LOCAL_WORLD_SIZE": ranks,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": threads_per_rank(ranks),
        PARENT: os.getpid(),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "gptexp.training.rank", str(folder)],
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        start_new_session=True,  # Ctrl-C reaches the launcher alone, which forwards it
        stderr=None if rank == 0 else subprocess.DEVNULL,  # other ranks write failures to a file
    )


def threads_per_rank(ranks: int) -> int:
    """Return the threads of each rank: OMP_NUM_THREADS, but no more than its share of the cores.

    Two ranks of two threads each on two cores are several times slower than two of one thread: idle threads spin.
    """
    share = max(1, available_cpus() // ranks)
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(wanted)) if wanted.isdecimal() and int(wanted) else share


def _wait(ranks: list[subprocess.Popen[bytes]]) -> int:
    """Return the exit code of the first rank that failed, else 0; the others get GRACE_SECONDS to end as well.

    The code of a rank without memory comes first: the others fail only because they lost their peer.
    """
    first, deadline = 0, float("inf")
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline:
        if not first and (first := next((rank.returncode for rank in ranks if rank.returncode), 0)):
            deadline = time.monotonic() + GRACE_SECONDS
        time.sleep(0.05)
    codes = [rank.returncode for rank in ranks if rank.returncode]
    for code in (OutOfMemoryError.code, KILLED):
        if code in codes:
            return code
    return first or next(iter(codes), 0)


def _signal_all(ranks: list[subprocess.Popen[bytes]], number: int) -> None:
    for rank in ranks:
        if rank.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(rank.pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_failure(folder: Path, rank: int, text: str) -> None:
    """Write the failure of a rank to a file that the launcher reads."""
    record = {"time": time.time(), "rank": rank, "text": text}
    (folder / f"failure-{rank}.json").write_text(json.dumps(record))


def _read_stop(folder: Path, started: float) -> str:
    """Return the reason that rank zero wrote into result.json since then; "": a signal came before it could."""
    file = folder / "result.json"
    with suppress(OSError, ValueError):
        result = json.loads(file.read_text("utf8"))
        if result.get("status") == "stopped" and file.stat().st_mtime >= started:
            return result["error"]
    return ""


def _read_first_failure(folder: Path, code: int) -> str:
    """Return a message about the earliest failure that a rank wrote, or about the exit code."""
    failures = [json.loads(path.read_text()) for path in folder.glob("failure-*.json")]
    for path in folder.glob("failure-*.json"):
        path.unlink()
    if failures and code != KILLED:
        first = min(failures, key=lambda failure: failure["time"])
        return f"rank {first['rank']} failed first:\n{first['text']}"
    if code < 0:
        hint = " (the system may have run out of memory)" if code == KILLED else ""
        return f"{signal.Signals(-code).name} ended a rank{hint}"
    return f"a rank ended with exit code {code}"
