"""What this machine computes well."""

from __future__ import annotations

import torch


def pick_device(accelerator: str = "auto") -> torch.device:
    use_gpu = accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 products run in hardware: elsewhere they are up to ten times slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def precision(wanted: str, device: torch.device) -> str:
    """Lightning's name of the precision; `auto` is bf16 where it is fast."""
    if wanted == "auto":
        wanted = "bf16" if has_fast_bf16(device) else "32"
    return {"32": "32-true", "bf16": "bf16-mixed"}[wanted]


def micro_batch_tokens(device: torch.device) -> int | None:
    """Tokens that are worth computing at once: beyond that a CPU gains nothing, and padding costs more."""
    return 2048 if device.type == "cpu" else None
