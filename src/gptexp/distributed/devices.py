"""What this machine computes well."""

from contextlib import AbstractContextManager

import torch

from gptexp.errors import UserError


def pick_device(accelerator: str = "auto") -> torch.device:
    """A CUDA device or the CPU; others, such as Apple's, lack what the code needs (float64, for one).

    Raises:
        UserError: a GPU is asked for, and there is none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError(
            "trainer.accelerator=gpu: torch finds no CUDA device here; auto takes the CPU then"
        )
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


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


def autocast(wanted: str, device: torch.device) -> AbstractContextManager[None]:
    """What Lightning puts around a training step, for passes outside of it: the same precision, the same figures."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=precision(wanted, device) == "bf16-mixed"
    )


def micro_batch_tokens(device: torch.device) -> int | None:
    """Tokens that are worth computing at once: beyond that a CPU gains nothing, and padding costs more."""
    return 2048 if device.type == "cpu" else None
