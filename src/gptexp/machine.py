"""Resources of this machine."""

import os
import shutil
import subprocess

NO_GPU = ("", "-1", "NoDevFiles")  # entries of CUDA_VISIBLE_DEVICES that hide all GPUs


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
