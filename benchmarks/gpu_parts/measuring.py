"""What every part of benchmarks/gpu.py shares: its options, its figures, its runs and its clock."""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gptexp.runs import timings
from gptexp.runs.run_folder import RunFolder

SEED = 1
POLL_SECONDS = 0.05


class Part:
    """One part of the benchmark, in a process of its own.

    Attributes:
        options: what the command line says.
        words: words that follow the options, for the runs of the part.
    """

    def __init__(self, description: str | None, *arguments: tuple[str, dict[str, Any]]) -> None:
        parser = argparse.ArgumentParser(
            description=description, formatter_class=argparse.RawTextHelpFormatter
        )
        parser.add_argument(
            "--figures", type=Path, help="file to append a line of JSON to for each figure"
        )
        parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
        parser.add_argument("--toy", action="store_true", help="tiny sizes, to see that it works")
        parser.add_argument(
            "--ranks", type=int, default=1, help="processes of torchrun, one a device"
        )
        for name, settings in arguments:
            parser.add_argument(name, **settings)
        self.options, self.words = parser.parse_known_args()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and ends its runs

    def report(self, name: str, value: Any, unit: str = "") -> None:
        """Print a figure, and append it to the file of figures."""
        value = float(f"{value:.5g}") if isinstance(value, float) else value
        print(f"{name}: {value} {unit}".rstrip(), flush=True)
        if self.options.figures:
            with self.options.figures.open("a") as out:
                out.write(json.dumps({"name": name, "value": value, "unit": unit}) + "\n")

    def report_lost_time(self, rows: list[dict[str, Any]]) -> None:
        """Report the mean shares of time that a run loses between its steps."""
        for name, cause in timings.SHARES.items():
            share = statistics.mean(row[name] for row in rows if name in row)
            self.report(f"share of time lost to {cause}", share)

    def report_compilation(self, row: dict[str, Any]) -> None:
        """Report what torch.compile has done, from the last row of metrics.jsonl."""
        if timings.COMPILED_GRAPHS in row:
            self.report("compilation", row[timings.COMPILE_SECONDS], "s")
            self.report("compiled graphs", row[timings.COMPILED_GRAPHS])

    def start_run(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `gptexp run`, under torchrun where there are several ranks."""
        options = self.options
        launcher = [sys.executable]
        if options.ranks > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone"]
            launcher += [f"--nproc_per_node={options.ranks}"]
        accelerator = "gpu" if options.device == "cuda" else "cpu"
        command = [*launcher, "-m", "gptexp.run", *words, *self.words]
        command += [f"trainer.accelerator={accelerator}", "trainer.progress=false", "logger=none"]
        print(" ".join(command), flush=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} if options.ranks > 1 else None
        return subprocess.Popen(command, env=environment)

    def finish_run(self, *words: str, outputs: Path) -> RunFolder:
        """Run to the end, and return the run's folder."""
        process = self.start_run(*words, f"outputs={outputs}")
        try:
            if process.wait():
                sys.exit(f"exit code {process.returncode} of gptexp run")
        finally:
            kill(process)
        return find_only_run(outputs)

    def watch_run(
        self, *words: str, outputs: Path, is_reached: Callable[[list[dict[str, Any]]], bool]
    ) -> list[dict[str, Any]]:
        """Run until the rows of metrics.jsonl suffice, kill the run, and return these rows."""
        process = self.start_run(*words, f"outputs={outputs}")
        try:
            while True:
                rows = [row for path in find_runs(outputs) for row in RunFolder(path).metrics()]
                if is_reached(rows):
                    return rows
                if process.poll() is not None:
                    sys.exit(
                        f"exit code {process.returncode} of gptexp run, before it reached what is measured"
                    )
                time.sleep(POLL_SECONDS)
        finally:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it has started: torchrun puts its ranks into sessions of their own."""
    if process.poll() is not None:
        return
    for pid in (process.pid, *list_descendants(process.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def list_descendants(pid: int) -> list[int]:
    """List the processes that a process has started, and those that they have started, as Linux tells."""
    children: list[int] = []
    with suppress(OSError):  # a process ends while it is looked at
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            children += map(int, file.read_text().split())
    return [each for child in children for each in (child, *list_descendants(child))]


def find_runs(outputs: Path) -> list[Path]:
    return [path.parent for path in outputs.glob("*/config.yaml")]


def find_only_run(outputs: Path) -> RunFolder:
    (path,) = find_runs(outputs)
    return RunFolder(path)


def synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def milliseconds(function: Callable[[], Any], device: str, repeats: int, warm_up: int = 2) -> float:
    """Return the median milliseconds of a call, with everything that it starts on the device."""
    times = []
    for _ in range(warm_up + repeats):
        synchronize(device)
        started = time.perf_counter()
        function()
        synchronize(device)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[warm_up:])
