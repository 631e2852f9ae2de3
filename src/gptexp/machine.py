"""Resources of this machine."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

NO_GPU = ("", "-1", "NoDevFiles")  # entries of CUDA_VISIBLE_DEVICES that hide all GPUs
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # options of mallopt, from malloc.h


def available_cpus() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def list_gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        if shutil.which("nvidia-smi") is None:
            return []
        command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        visible = ",".join(done.stdout.split()) if done.returncode == 0 else ""
    names = [name.strip() for name in visible.split(",")]
    return [name for name in names if name not in NO_GPU]


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that processes can still take; None where Linux does not tell.

    The limits of control groups count, as SLURM and containers set them. Files that are only cached count as available.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return min([*sizes, *_available_in_groups(root)], default=None)


def largest_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory and swap space of this machine; None where Linux does not tell."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = [
        1024 * int(line.split()[1])
        for line in lines
        if line.startswith(("MemTotal:", "SwapTotal:"))
    ]
    return sum(sizes) or None


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory of up to a GiB; by default, each large tensor gets fresh pages from Linux.

    A training step on a CPU takes up to a fifth longer with fresh pages. Other C libraries keep their ways.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        if not mallopt(M_MMAP_THRESHOLD, 1 << 30):  # glibc before 2.35
            mallopt(M_MMAP_THRESHOLD, 1 << 25)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _available_in_groups(root: Path) -> Iterator[int]:
    """Yield the bytes that each limited control group of this process, of version 1 or 2, has left."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        limit_name, usage_name, cached_name = (
            names if controllers else ("memory.max", "memory.current", "inactive_file")
        )
        group = top / path.lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(top))):
            try:
                limit = int((folder / limit_name).read_text())  # "max" is no number
                usage = int((folder / usage_name).read_text())
                stat = dict(
                    line.split() for line in (folder / "memory.stat").read_text().splitlines()
                )
            except (OSError, ValueError):
                continue
            yield max(0, limit - usage + int(stat.get(cached_name, 0)))
