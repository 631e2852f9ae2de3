"""GPUs for the jobs of a sweep that run at the same time on one machine: each job gets its own.

The presets hydra/launcher=parallel and submitit set GPTEXP_CLAIM_GPUS. SLURM and Ray give each job its GPUs themselves.
"""

import fcntl
import os
import tempfile
from itertools import count
from pathlib import Path

from gptexp.config.schema import TrainerConfig
from gptexp.machine import list_gpus

CLAIM = "GPTEXP_CLAIM_GPUS"
ALL, HELD = "GPTEXP_ALL_GPUS", "GPTEXP_HELD_GPUS"  # names that this process has listed and claimed


def claim_gpus(config: TrainerConfig) -> None:
    """Show this process `trainer.devices` GPUs that no other job of the user holds, until it ends.

    With more jobs than GPUs, each GPU has equally many jobs. A process that runs several jobs keeps its GPUs: CUDA
    reads CUDA_VISIBLE_DEVICES once. If the machine has too few GPUs, nothing changes.
    """
    if CLAIM not in os.environ or config.accelerator == "cpu":
        return
    gpus = os.environ.setdefault(ALL, ",".join(list_gpus())).split(",")
    held = [name for name in os.environ.get(HELD, "").split(",") if name]
    if gpus == [""] or config.devices > len(gpus):
        return
    folder = Path(tempfile.gettempdir()) / f"gptexp-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in count():  # of the jobs on a GPU
        for gpu in gpus:
            if len(held) < config.devices and gpu not in held and _lock(folder, gpu, number):
                held.append(gpu)
        if len(held) >= config.devices:
            break
    os.environ[HELD] = ",".join(held)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held[: config.devices])


def _lock(folder: Path, gpu: str, number: int) -> bool:
    """Lock a place on a GPU until this process ends; return whether it was free."""
    file = os.open(folder / f"{gpu.replace('/', '_')}.{number}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True  # the open file holds the lock
