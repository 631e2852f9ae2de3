"""torch.compile: whether a run uses it, whether it works on this machine, and the time that it takes.

It needs a compiler, headers and folders that may be missing.

python -m gptexp.distributed.compiler [auto | cpu | gpu]       compiles a few lines; exit code 1 if that fails
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gptexp.config.schema import Config
from gptexp.errors import UserError
from gptexp.machine import list_gpus
from gptexp.stages import stage
from gptexp.wording import first_line

if TYPE_CHECKING:
    import torch

MAX_SECONDS = 300
# An estimate of a training without torch.compile on a large GPU: it computes, or it waits for kernels to be launched.
FLOPS_PER_SECOND, LAUNCH_SECONDS_PER_LAYER = 2e14, 0.0025
WORTHWHILE_SECONDS = 60.0  # compiling takes 20 to 60 s


def check_compiler(config: Config) -> None:
    """Try torch.compile in a process of its own where trainer.compile demands it, before a run prepares its data.

    With trainer.compile=auto, print a line if this machine has GPUs and no compiler.

    Raises:
        UserError: trainer.compile=true, and torch.compile fails; the message has its reason.
    """
    if config.trainer.compile == "true":
        if reason := _try_compiler(config.trainer.accelerator):
            raise UserError(
                f"trainer.compile=true: torch.compile does not work on this machine ({reason}). "
                f"Install a C++ compiler, such as g++, and Python's headers, or set trainer.compile=false"
            )
        return
    may_compile = is_worth_compiling(config) and config.trainer.accelerator != "cpu"
    if may_compile and (missing := find_missing_part()) and list_gpus():
        _print_uncompiled(f"this machine has no {missing}")


def is_worth_compiling(config: Config) -> bool:
    """Return whether trainer.compile=auto compiles on a GPU: a long training gains more than compiling takes.

    The answer follows from the settings alone, so that a run computes the same when it is resumed.
    """
    model, trainer = config.model, config.trainer
    tokens = trainer.global_batch_size * model.context / (trainer.devices * trainer.nodes)
    flops = 6 * 12 * model.layers * model.d_model**2 * tokens  # of the matrices of blocks
    seconds = max(flops / FLOPS_PER_SECOND, LAUNCH_SECONDS_PER_LAYER * model.layers)
    return trainer.compile == "auto" and trainer.max_steps * seconds >= WORTHWHILE_SECONDS


def find_missing_part() -> str:
    """Return what torch.compile for GPUs needs and this machine lacks, or ""."""
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "C compiler, such as gcc"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return f"headers of Python (python{sysconfig.get_python_version()}-dev)"
    return "" if importlib.util.find_spec("triton") else "package triton"


def should_compile(config: Config, device: "torch.device", *, prints: bool = True) -> bool:
    """Return whether this process compiles its model.

    Args:
        prints: print a line where trainer.compile=auto would, and torch.compile fails.
    """
    if config.trainer.compile != "auto":
        return config.trainer.compile == "true"
    if device.type != "cuda" or not is_worth_compiling(config) or find_missing_part():
        return False
    try:
        compile_example(device)
    except Exception as error:
        if prints:
            _print_uncompiled(first_line(error))
        return False
    return True


def compile_seconds() -> float:
    """Return the seconds that this process has spent in torch.compile."""
    from torch._dynamo.utils import calculate_time_spent

    return calculate_time_spent()["total_wall_time"]


def count_compiled_graphs() -> int:
    """Return the number of graphs that this process has compiled: one that grows with the steps slows a run down."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def compile_example(device: "torch.device") -> None:
    """Compile a few lines, and run them."""
    import torch

    remove_unfinished_builds()
    square = torch.ones(8, 8, device=device, requires_grad=True)
    torch.compile(lambda x: (x @ x).relu() + 1)(square).sum().backward()


def remove_unfinished_builds() -> None:
    """Remove libraries from the caches of torch.compile whose build was killed: torch would load them as they are.

    A compiler writes a library NAME.so in place, and a folder NAME_CxxBuild lies beside it until it is complete. While
    a process builds it, this process holds a lock. Triton's files and Inductor's own are written atomically.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    from torch.utils._filelock import FileLock

    default = default_cache_dir()  # precompiled headers are always there
    for cache in {default, os.environ.get("TORCHINDUCTOR_CACHE_DIR", default)}:
        for folder in Path(cache).glob("*/*_CxxBuild"):
            name = folder.name.removesuffix("_CxxBuild")
            is_header = folder.parent.name == "precompiled_headers"
            locks = (folder.parent if is_header else Path(cache)) / "locks"
            lock = FileLock(locks / f"{name.partition('.')[0]}.lock", timeout=0)
            with suppress(OSError), lock:  # a lock that another process holds raises TimeoutError
                if folder.is_dir():
                    for ending in (".so", ".o", ".gch", ".pch"):
                        folder.with_name(name + ending).unlink(missing_ok=True)
                    shutil.rmtree(folder)


def _try_compiler(accelerator: str) -> str:
    """Return why torch.compile fails in a process of its own, or ""."""
    command = [sys.executable, "-m", __name__, accelerator]
    try:
        with stage("trying torch.compile"):
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=MAX_SECONDS
            )
    except subprocess.TimeoutExpired:
        return f"no end after {MAX_SECONDS} s"
    if done.returncode == 0:
        return ""
    return next(iter(done.stdout.splitlines()[-1:]), f"exit code {done.returncode}")


def _print_uncompiled(reason: str) -> None:
    print(
        f"trainer.compile=auto: training is not compiled, and slower for it ({reason})",
        file=sys.stderr,
    )


def main() -> None:
    from gptexp.distributed.devices import pick_device

    try:
        compile_example(pick_device(sys.argv[1]))
    except Exception as error:
        print(first_line(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
