"""Run the plain command of each task, one after the other, and print a table of their times and results.

    python benchmarks/every_task.py                          all tasks, by their defaults
    python benchmarks/every_task.py task=speak task=bert     these
    python benchmarks/every_task.py --add trainer.max_steps=20 --cache cache

Each command starts with an empty cache folder, so its total has the time of preparing the data as well. On two cores
each should take at most five minutes. OMP_NUM_THREADS=1 measures CPU seconds that do not depend on what else the
machine does.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from gptexp.config.package_data import choices
from gptexp.config.plugins import import_installed_plugins
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.tables import primary_metric_text

EXPERIMENTS = ("experiment=video",)  # whose data needs no file
HEADER = "| command | result | total, s | training, s | CPU, s | steps |\n|---|---|---|---|---|---|"


@dataclass
class Measurement:
    """A finished command: its folder, the seconds that it took, and the CPU seconds of all its threads."""

    command: str
    folder: RunFolder
    seconds: float
    cpu_seconds: float

    def row(self) -> str:
        result = self.folder.result()
        cells = (
            f"`{self.command}`",
            primary_metric_text(result),
            f"{self.seconds:.0f}",
            f"{result['train_seconds']:.0f}",
            f"{self.cpu_seconds:.0f}",
            str(result["steps"]),
        )
        return f"| {' | '.join(cells)} |"


def plain_commands() -> list[str]:
    import_installed_plugins()
    return [*(f"task={name}" for name in choices("task")), *EXPERIMENTS]


def measure(command: str, more: list[str], outputs: Path, cache: Path) -> Measurement:
    """Run a command to its end in a process of its own.

    Raises:
        subprocess.CalledProcessError: it failed; stderr has said why.
    """
    words = [*command.split(), *more, f"outputs={outputs}", f"cache={cache}"]
    cpu_before, start = _cpu_seconds_of_children(), time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "gptexp.run", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={"WANDB_MODE": "offline"} | os.environ,
    )
    seconds = time.perf_counter() - start
    folder = RunFolder(Path(process.stdout.splitlines()[-1]))
    return Measurement(command, folder, seconds, _cpu_seconds_of_children() - cpu_before)


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("commands", nargs="*", metavar="task=NAME", help="default: all")
    parser.add_argument("--add", nargs="+", default=[], metavar="KEY=VALUE", help="for all of them")
    parser.add_argument("--cache", type=Path, help="folder of prepared data, shared and kept")
    parser.add_argument("--outputs", type=Path, help="default: a folder that is removed")
    args = parser.parse_args()
    print(HEADER)
    with tempfile.TemporaryDirectory() as scratch:
        for number, command in enumerate(args.commands or plain_commands()):
            cache = args.cache or Path(scratch) / f"cache-{number}"
            outputs = args.outputs or Path(scratch) / "outputs"
            try:
                print(measure(command, args.add, outputs, cache).row(), flush=True)
            except subprocess.CalledProcessError as error:
                print(f"| `{command}` | exit code {error.returncode} | | | | |", flush=True)


if __name__ == "__main__":
    main()
