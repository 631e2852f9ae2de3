"""Measure gptexp on one GPU, next to nanoGPT and transformers, in ten minutes.

    python benchmarks/gpu.py --nanogpt nanoGPT --shakespeare input.txt --pairs train.en.gz train.de.gz
    python benchmarks/gpu.py --only gpt2-muon probe          single parts; --list names all
    python benchmarks/gpu.py --ranks 8                       what runs on several GPUs, under torchrun
    python benchmarks/gpu.py --toy --device cpu              at toy size on a CPU, to see that it works

Each part is a process of its own with a time limit: one that fails leaves the others. Parts run in the order of their
importance until the minutes are over. After each, OUT/results.json and OUT/results.md are written; OUT/NAME.log has its
output. The same command later measures what is missing (--again: everything). Results of one OUT share GPU, commit and
PyTorch. docs/gpus.md explains the figures.
"""

import argparse
import json
import math
import os
import shutil
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
OVER = "the {:g} minutes are over; repeat the command"


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
        beside: a part that is measured in the same call, since their ratio counts.
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
    beside: str | None = None


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
RUNS = ("test_gpu_runs.py",)
PARTS = (  # the most important ones first
    Part("environment", "environment", seconds=60, on_ranks=()),
    speed("gpt2-muon", "gpt2", "muon", has_toy=True),
    Part("nanogpt", "nanogpt", needs=("nanogpt",), beside="gpt2-muon"),
    speed("gpt2-adamw", "gpt2", "adamw"),
    speed("modern-muon", "modern", "muon", has_toy=True),
    Part("generate", "generate", seconds=150),
    Part("shakespeare", "shakespeare", needs=("shakespeare",)),
    Part("translate", "translate", takes=("pairs",)),
    Part("resume", "resume", seconds=240, on_ranks=()),
    Part("probe", "probe", seconds=120),
    speed_of_xl("xl-gpt2-muon", "gpt2", "muon"),
    speed_of_xl("xl-gpt2-adamw", "gpt2", "adamw", has_toy=True),
    speed_on_ranks("gpt2-muon-fsdp", "gpt2", "muon", FSDP),
    speed_on_ranks("gpt2-adamw-fsdp", "gpt2", "adamw", FSDP),
    speed_on_ranks("gpt2-tensor-parallel", "gpt2", "muon", FSDP, "trainer.tensor_parallel=2"),
    speed_on_ranks("gpt2-context-parallel", "gpt2", "muon", FSDP, "trainer.context_parallel=2"),
    Part("nanogpt-shakespeare", "nanogpt", needs=("nanogpt", "shakespeare")),
    Part("translate-compiled", "translate", ("--compiled",), 240, takes=("pairs",), has_toy=False),
    Part("tests-computations", "gpu_tests", ("test_gpu_computations.py",), 150, on_ranks=()),
    Part("tests-runs", "gpu_tests", (*RUNS, "--names", "not compiled_run"), 450, on_ranks=()),
    Part("tests-compiled-runs", "gpu_tests", (*RUNS, "--names", "compiled_run"), 450, on_ranks=()),
    Part("resume-compiled", "resume", ("trainer.compile=true",), seconds=240, has_toy=False),
    Part("checkpoints", "checkpoints"),
    replace(speed("gpt2-checkpoints", "gpt2", "adamw", "--checkpoints"), seconds=180),
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
    deadline = time.monotonic() + 60 * options.minutes
    results = Results(options, describe_setup(options))
    shutil.rmtree(compiled_folder(options), ignore_errors=True)
    chosen = [part for part in parts if not options.only or part.name in options.only]
    missing = find_missing(chosen, options, results)
    for part in chosen:
        if part.name not in missing:
            print(f"{part.name}: measured before", flush=True)
            continue
        seconds_left = deadline - time.monotonic()
        reason = reason_to_skip(part, options, seconds_left)
        row = (
            {"state": "skipped", "reason": reason}
            if reason
            else measure(part, options, seconds_left)
        )
        print(describe(part, row), flush=True)
        results.add(part.name, row)
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


def describe_setup(options: argparse.Namespace) -> dict[str, Any]:
    """Return what all results of a folder share, so that they may stand side by side."""
    setup = {name: getattr(options, name) for name in ("device", "toy", "ranks")}
    return {**setup, **describe_machine(options.device), "commit": describe_commit()}


def describe_machine(device: str) -> dict[str, str]:
    """Return the names of GPU and PyTorch, by a process that frees the GPU when it ends."""
    program = "import torch; print(torch.__version__)"
    if device == "cuda":
        program += "; print(torch.cuda.get_device_name())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no output").splitlines()[-1]
        sys.exit(
            f"--device {device}: PyTorch does not work with it ({reason}). "
            f"--toy --device cpu tries the parts on a CPU"
        )
    torch_version, *gpu = done.stdout.splitlines()
    return {"gpu": gpu[-1] if gpu else "none", "torch": torch_version}


def describe_commit() -> str:
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    with suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return "not known"


class Results:
    """The results of all parts, in results.json and results.md after each of them.

    Attributes:
        call: the number of this call of the script among those that have written to the folder.
    """

    def __init__(self, options: argparse.Namespace, setup: dict[str, Any]) -> None:
        self.folder, self.file = options.out, options.out / "results.json"
        self.setup, self.call = setup, 1
        self.parts: dict[str, dict[str, Any]] = {}
        if self.file.is_file():
            before = json.loads(self.file.read_text())
            if before["setup"] != setup:
                names = [name for name in setup if before["setup"].get(name) != setup[name]]
                theirs, ours = (
                    ", ".join(f"{name} {each.get(name, 'not known')}" for name in names)
                    for each in (before["setup"], setup)
                )
                sys.exit(f"{self.file}: has results of {theirs}; now: {ours}. Give another --out")
            self.parts = before["parts"]
            self.call += max((row.get("call", 0) for row in self.parts.values()), default=0)
        self.folder.mkdir(parents=True, exist_ok=True)

    def has(self, name: str) -> bool:
        return self.parts.get(name, {}).get("state") == "done"

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Keep the result of a part. A part that is skipped keeps what was measured before."""
        before = self.parts.get(name, {}).get("state", "skipped")
        if row["state"] != "skipped" or before == "skipped":
            self.parts[name] = {"figures": [], "call": self.call, **row}
        claims = [] if self.setup["toy"] else judge(self.parts)
        content = {"setup": self.setup, "parts": self.parts, "claims": claims}
        self.file.write_text(json.dumps(content, indent=1) + "\n")
        write_tables(self.folder / "results.md", self.setup, self.parts, claims)


def find_missing(parts: list[Part], options: argparse.Namespace, results: Results) -> set[str]:
    """Return the names of the parts to measure, with those that were measured in another call than their neighbour."""
    names = {part.name for part in parts if options.again or not results.has(part.name)}
    for part in parts:
        if part.beside and reason_to_skip(part, options) is None:
            pair = {part.name, part.beside}
            calls = {results.parts.get(name, {}).get("call") for name in pair}
            if pair & names or len(calls) > 1:
                names |= pair
    return names


def describe(part: Part, row: dict[str, Any]) -> str:
    seconds = f" in {row['seconds']:.0f} s" if "seconds" in row else ""
    reason = f": {row['reason']}" if row["reason"] else ""
    return f"{part.name}: {row['state']}{seconds}{reason}"


def reason_to_skip(
    part: Part, options: argparse.Namespace, seconds_left: float = math.inf
) -> str | None:
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
        return OVER.format(options.minutes)
    return None


def measure(part: Part, options: argparse.Namespace, seconds_left: float) -> dict[str, Any]:
    """Run a part in a process of its own, and return its result. One that fails keeps its figures until then."""
    figures, log = options.out / f"{part.name}.jsonl", options.out / f"{part.name}.log"
    figures.unlink(missing_ok=True)
    started, date = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
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
            state, reason = ("failed", last_line(log)) if code else ("done", "")
        except subprocess.TimeoutExpired:
            state, reason = "failed", f"stopped after {time.monotonic() - started:.0f} s"
            if seconds_left < part.seconds:
                state, reason = "skipped", f"{reason}: {OVER.format(options.minutes)}"
        finally:
            end(process)
    lines = figures.read_text().splitlines() if figures.is_file() else []
    figures.unlink(missing_ok=True)
    return {
        "state": state,
        "time": date,
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
    """Return the environment of a part: this checkout's source, and caches that no other program fills."""
    source = [str(HERE), str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, source)),
        "GPTEXP_CACHE": str((options.out / "cache").resolve()),
        "TORCHINDUCTOR_CACHE_DIR": str(compiled_folder(options) / "inductor"),
        "TRITON_CACHE_DIR": str(compiled_folder(options) / "triton"),
        "HF_HUB_OFFLINE": "1",
        **({"OMP_NUM_THREADS": "1"} if options.toy else {}),
    }


def compiled_folder(options: argparse.Namespace) -> Path:
    """Return the folder of compiled kernels. Each call deletes it first: compile times are those of a new machine."""
    return (options.out / "compiled").resolve()


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
