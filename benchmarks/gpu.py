"""Measure gptexp on one GPU, next to nanoGPT and transformers, in ten minutes.

    python benchmarks/gpu.py --nanogpt nanoGPT --shakespeare input.txt --pairs train.en.gz train.de.gz
    python benchmarks/gpu.py --only gpt2-muon probe          single parts; --list names all
    python benchmarks/gpu.py --ranks 8                       what runs on several GPUs, under torchrun
    python benchmarks/gpu.py --toy --device cpu              at toy size on a CPU, to see that it works: two minutes

Each part is a process of its own with a time limit: one that fails leaves the others. Parts run in the order of their
importance until the minutes are over. After each, OUT/results.json and OUT/results.md are written; OUT/NAME.log has its
output. The same command later measures what is missing (--again: everything). docs/gpus.md explains the figures.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu_parts.claims import judge
from gpu_parts.tables import write_tables

HERE = Path(__file__).parent
LEAST_SECONDS = 20.0  # left for a part to start
SECONDS_TO_END = 15.0


@dataclass(frozen=True)
class Part:
    """A script of gpu_parts/ with its words.

    Attributes:
        seconds: after which it is stopped.
        needs: options that must be given.
        takes: options that it reads where they are given.
        on_ranks: words that replace `words` where there are several ranks; None: it runs on one device only.
        only_on_ranks: it needs several devices.
        package: that must be installed.
        has_toy: False for a part whose code another part runs; at toy size it runs only if it is named.
    """

    name: str
    script: str
    words: tuple[str, ...] = ()
    seconds: float = 120.0
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    on_ranks: tuple[str, ...] | None = None
    only_on_ranks: bool = False
    has_toy: bool = True
    package: str | None = None


def speed(name: str, preset: str, optim: str, *words: str, has_toy: bool = False) -> Part:
    """A run at 124 M, under DDP on several ranks."""
    more = ("--size", "gpt2", "--preset", preset, "--optim", optim, *words)
    return Part(name, "speed", more, on_ranks=(*more, "trainer.strategy=ddp"), has_toy=has_toy)


def speed_of_xl(name: str, preset: str, optim: str, *words: str, has_toy: bool = False) -> Part:
    """A run at GPT-2 XL, under FSDP2 on several ranks."""
    more = ("--size", "gpt2-xl", "--preset", preset, "--optim", optim, *words)
    return Part(name, "speed", more, 180, on_ranks=(*more, FSDP), has_toy=has_toy)


def speed_on_ranks(name: str, size: str, optim: str, *words: str) -> Part:
    more = ("--size", size, "--optim", optim, *words)
    return Part(name, "speed", seconds=180, on_ranks=more, only_on_ranks=True)


FSDP, FLOAT8 = "trainer.strategy=fsdp", "trainer.precision=float8"
RECOMPUTED, BUDGET = "trainer.activation_checkpointing", "trainer.activation_memory_budget"
WIDE = ("model.d_model=2048", "model.heads=16")  # float8 pays from here on
LONG_TRANSLATION = ("trainer.compile=true", "trainer.max_steps=500", "trainer.log_every=1")
PARTS = (  # the most important ones first
    Part("environment", "environment", seconds=60, on_ranks=()),
    speed("gpt2-muon", "gpt2", "muon", has_toy=True),
    Part("nanogpt", "nanogpt", needs=("nanogpt",)),
    speed("gpt2-adamw", "gpt2", "adamw"),
    speed("modern-muon", "modern", "muon", has_toy=True),
    Part("generate", "generate", seconds=150),
    Part("shakespeare", "shakespeare", needs=("shakespeare",)),
    Part("translate", "translate", takes=("pairs",)),
    Part("resume", "resume", seconds=150, on_ranks=()),
    Part("probe", "probe", seconds=120),
    speed_of_xl("xl-gpt2-muon", "gpt2", "muon"),
    speed_of_xl("xl-gpt2-adamw", "gpt2", "adamw", has_toy=True),
    speed_on_ranks("gpt2-muon-fsdp", "gpt2", "muon", FSDP),
    speed_on_ranks("gpt2-adamw-fsdp", "gpt2", "adamw", FSDP),
    speed_on_ranks("gpt2-tensor-parallel", "gpt2", "muon", FSDP, "trainer.tensor_parallel=2"),
    speed_on_ranks("gpt2-context-parallel", "gpt2", "muon", FSDP, "trainer.context_parallel=2"),
    Part("nanogpt-shakespeare", "nanogpt", needs=("nanogpt", "shakespeare")),
    Part("translate-compiled", "translate", LONG_TRANSLATION, takes=("pairs",), has_toy=False),
    Part("tests", "gpu_tests", seconds=400, on_ranks=()),
    Part("resume-compiled", "resume", ("trainer.compile=true",), seconds=240, has_toy=False),
    Part("checkpoints", "checkpoints"),
    speed("gpt2-checkpoints", "gpt2", "adamw", "trainer.checkpoint_every=20"),
    Part("generate-xl", "generate", ("--xl",), has_toy=False),
    speed("gpt2-documents", "gpt2", "muon", "task.document_mask=true"),
    speed("gpt2-window", "gpt2", "muon", "model.window=256", "model.window_pattern=SSSL"),
    speed("modern-adamw", "modern", "adamw"),
    speed("gpt2-muon-eager", "gpt2", "muon", "trainer.compile=false"),
    speed_of_xl("xl-modern-muon", "modern", "muon"),
    speed_of_xl("xl-modern-adamw", "modern", "adamw"),
    speed_of_xl("xl-selective", "modern", "adamw", f"{RECOMPUTED}=selective"),
    speed_of_xl("xl-full", "modern", "adamw", f"{RECOMPUTED}=full"),
    speed_of_xl("xl-budget", "modern", "adamw", "trainer.compile=true", f"{BUDGET}=0.5"),
    speed("wide", "modern", "adamw", *WIDE),
    replace(speed("wide-float8", "modern", "adamw", *WIDE, FLOAT8), package="torchao"),
)


def main(parts: tuple[Part, ...] = PARTS) -> None:
    options = parse(parts)
    options.out.mkdir(parents=True, exist_ok=True)
    results = Results(options)
    deadline = time.monotonic() + 60 * options.minutes
    for part in parts:
        if options.only and part.name not in options.only:
            continue
        if results.has(part.name) and not options.again:
            print(f"{part.name}: measured before", flush=True)
            continue
        seconds_left = deadline - time.monotonic()
        reason = reason_to_skip(part, options, seconds_left)
        if reason:
            results.add(part.name, state="skipped", reason=reason)
        else:
            results.add(part.name, **measure(part, options, seconds_left))
        print(results.describe(part.name), flush=True)
    print((options.out / "results.md").read_text())
    if any(row["state"] == "failed" for row in results.parts.values()):
        sys.exit(1)


def parse(parts: tuple[Part, ...]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = [part.name for part in parts]
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="PART", help="these parts alone"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the parts")
    parser.add_argument("--minutes", type=float, default=10.0, help="default: 10")
    parser.add_argument(
        "--out", type=Path, default=Path("gpu-results"), help="default: gpu-results"
    )
    parser.add_argument("--again", action="store_true", help="measure again what is there")
    parser.add_argument("--ranks", type=int, default=1, help="processes of torchrun, one a GPU")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--toy", action="store_true", help="tiny sizes, to see that every part works"
    )
    parser.add_argument("--nanogpt", type=Path, help="folder of nanoGPT, to run it on the same GPU")
    parser.add_argument("--shakespeare", type=Path, help="the text of char-rnn and nanoGPT")
    parser.add_argument("--pairs", type=Path, nargs=2, help="two files to translate, line by line")
    options = parser.parse_args()
    if options.list:
        print("\n".join(names))
        sys.exit()
    for path in (options.nanogpt, options.shakespeare, *(options.pairs or ())):
        if path is not None and not path.exists():
            parser.error(f"{path}: there is no such file or folder")
    return options


class Results:
    """The results of all parts, in results.json and results.md after each of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.folder = options.out
        self.file = options.out / "results.json"
        self.setup = {name: getattr(options, name) for name in ("device", "toy", "ranks")}
        self.parts: dict[str, dict[str, Any]] = {}
        if self.file.is_file():
            before = json.loads(self.file.read_text())
            if before["setup"] != self.setup:
                sys.exit(
                    f"{self.file}: holds other results, of {before['setup']}. Give another --out"
                )
            self.parts = before["parts"]

    def has(self, name: str) -> bool:
        return self.parts.get(name, {}).get("state") == "done"

    def add(self, name: str, **row: Any) -> None:
        """Keep the result of a part. A part that is skipped keeps what was measured before."""
        if row["state"] != "skipped" or name not in self.parts:
            self.parts[name] = {"figures": [], **row}
        claims = [] if self.setup["toy"] else judge(self.parts)
        content = {"setup": self.setup, "parts": self.parts, "claims": claims}
        self.file.write_text(json.dumps(content, indent=1) + "\n")
        write_tables(self.folder / "results.md", self.parts, claims)

    def describe(self, name: str) -> str:
        row = self.parts[name]
        seconds = f" in {row['seconds']:.0f} s" if "seconds" in row else ""
        reason = f": {row['reason']}" if row.get("reason") else ""
        return f"{name}: {row['state']}{seconds}{reason}"


def reason_to_skip(part: Part, options: argparse.Namespace, seconds_left: float) -> str | None:
    if part.package and find_spec(part.package) is None:
        return f"{part.package} is not installed"
    missing = [f"--{name}" for name in part.needs if getattr(options, name) is None]
    if missing:
        return f"needs {' and '.join(missing)}"
    if options.toy and not (part.has_toy or options.only):
        return "another part runs the same code at toy size"
    if options.ranks > 1 and part.on_ranks is None:
        return "runs on one device"
    if options.ranks == 1 and part.only_on_ranks:
        return "needs --ranks"
    if seconds_left < LEAST_SECONDS:
        return f"the {options.minutes:g} minutes are over; repeat the command"
    return None


def measure(part: Part, options: argparse.Namespace, seconds_left: float) -> dict[str, Any]:
    """Run a part in a process of its own, and return its result. Its figures count even if it fails later."""
    figures, log = options.out / f"{part.name}.jsonl", options.out / f"{part.name}.log"
    figures.unlink(missing_ok=True)
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command(part, options, figures),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(options),
            start_new_session=True,
        )
        try:
            code = process.wait(min(part.seconds, seconds_left))
            reason = "" if code == 0 else last_line(log)
        except subprocess.TimeoutExpired:
            code, reason = None, f"stopped after {time.monotonic() - started:.0f} s"
        finally:
            end(process)
    lines = figures.read_text().splitlines() if figures.is_file() else []
    figures.unlink(missing_ok=True)
    return {
        "state": "done" if code == 0 else "failed",
        "seconds": round(time.monotonic() - started, 1),
        "reason": reason,
        "figures": [json.loads(line) for line in lines],
    }


def command(part: Part, options: argparse.Namespace, figures: Path) -> list[str]:
    script = HERE / "gpu_parts" / f"{part.script}.py"
    words = [sys.executable, str(script), "--figures", str(figures.resolve())]
    words += ["--device", options.device, "--ranks", str(options.ranks)]
    words += ["--toy"] if options.toy else []
    for name in (*part.needs, *part.takes):
        value = getattr(options, name)
        if value is not None:
            paths = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(str(path.resolve()) for path in paths)]
    return [*words, *((part.on_ranks or part.words) if options.ranks > 1 else part.words)]


def environment(options: argparse.Namespace) -> dict[str, str]:
    """Return the environment of a part: this checkout's source, and caches of its own."""
    source = [str(HERE), str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, source)),
        "GPTEXP_CACHE": str((options.out / "cache").resolve()),
        "HF_HUB_OFFLINE": "1",
        **({"OMP_NUM_THREADS": "1"} if options.toy else {}),
    }


def end(process: subprocess.Popen[bytes]) -> None:
    """End a part that is still there: it ends its runs on SIGTERM."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_END)
    with suppress(ProcessLookupError):  # and whatever is left in its group
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


if __name__ == "__main__":
    main()
