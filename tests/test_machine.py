import platform
import subprocess
import sys

import pytest

from gptexp.machine import available_memory, largest_memory

MIB = 2**20
MEMINFO = "MemTotal: 16384 kB\nMemAvailable: 8192 kB\n"


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8 * MIB),
        (  # version 2: SLURM limits the job, a parent of the task's group
            {
                "proc/self/cgroup": "0::/job_1/step_0\n",
                "sys/fs/cgroup/job_1/step_0/memory.max": "max\n",
                "sys/fs/cgroup/job_1/memory.max": f"{4 * MIB}\n",
                "sys/fs/cgroup/job_1/memory.current": f"{3 * MIB}\n",
                "sys/fs/cgroup/job_1/memory.stat": f"anon 5\ninactive_file {MIB}\n",
            },
            2 * MIB,
        ),
        (  # version 1
            {
                "proc/self/cgroup": "3:cpu:/a\n2:memory:/a\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{4 * MIB}",
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": f"{3 * MIB}",
                "sys/fs/cgroup/memory/a/memory.stat": "cache 1",
            },
            MIB,
        ),
    ],
)
def test_the_memory_that_is_left_is_the_smallest_of_all_limits(files, expected, tmp_path):
    write(tmp_path, {"proc/meminfo": MEMINFO, **files})
    assert available_memory(tmp_path) == expected


def test_memory_is_unknown_where_linux_does_not_tell(tmp_path):
    assert available_memory(tmp_path) is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told to keep memory")
def test_large_arrays_take_no_fresh_pages_where_freed_memory_is_kept():
    script = """
import resource
import numpy as np
from gptexp.machine import keep_freed_memory

def count_page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(1 << 22)  # 32 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = count_page_faults()
keep_freed_memory()
count_page_faults()
print(before, count_page_faults())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    before, after = map(int, done.stdout.split())
    assert after < before / 10


def test_the_largest_memory_is_that_of_the_machine_with_its_swap_space(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(
        "MemTotal:  1000 kB\nMemAvailable:  400 kB\nSwapTotal:  24 kB\n"
    )
    assert largest_memory(tmp_path) == 1024 * 1024
    assert largest_memory(tmp_path / "nowhere") is None
