"""The device of a rank: its versions for the record, its peak speed, and the memory that the rank has used."""

import re
import resource
import subprocess
import sys
from typing import Any

import torch

# Dense bf16 TFLOP/s from the vendors' data sheets, without sparsity. The first name that occurs as a word counts.
PEAK_BF16_TFLOPS = {
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "H200 NVL": 835.0,
    "H200": 989.0,
    "GH200": 989.0,
    "H800": 989.0,
    "B200": 2250.0,
    "A100": 312.0,
    "A800": 312.0,
    "A40": 149.7,
    "A30": 165.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "RTX A6000": 154.8,
    "RTX 3090": 71.0,
    "RTX 4090": 165.2,
    "MI300X": 1307.4,
}
GIB = 2**30


def peak_bf16_flops(device: torch.device) -> float | None:
    """Return the dense bf16 FLOP/s of a device; None for a CPU and for a GPU that is not in the table."""
    return peak_of_gpu(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of_gpu(name: str) -> float | None:
    """Return the dense bf16 FLOP/s of a GPU by its name; None if it is unknown, or a part of a GPU."""
    if re.search(r"\bMIG\b|Laptop|Max-Q", name):
        return None
    for known, tflops in PEAK_BF16_TFLOPS.items():
        if re.search(rf"\b{re.escape(known)}\b", name, re.IGNORECASE):
            return tflops * 1e12
    return None


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory that this process has used: its tensors on a GPU, or its resident set on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def describe_device(device: torch.device) -> dict[str, Any]:
    """Return the device for environment.json: a GPU with its driver and libraries, or a CPU with its threads."""
    if device.type != "cuda":
        return {"type": device.type, "threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(device)
    return {
        "type": device.type,
        "name": properties.name,
        "memory_gib": round(properties.total_memory / GIB, 1),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "gpus": torch.cuda.device_count(),
        "driver": driver_version(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if has_nccl() else None,
    }


def has_nccl() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_nccl_available()


def driver_version() -> str | None:
    """Return the version of NVIDIA's driver; None where nvidia-smi does not tell it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(process.stdout.split()), None)
