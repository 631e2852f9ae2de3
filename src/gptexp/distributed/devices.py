"""Devices of this machine: which one to use, and the precision that is fast on it."""

from contextlib import AbstractContextManager

import torch

from gptexp.config.schema import TrainerConfig
from gptexp.distributed.float8 import check_float8
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import UserError


def pick_device(accelerator: str = "auto") -> torch.device:
    """Return a CUDA device or the CPU. Other devices, such as Apple's, lack float64, which the code needs.

    Raises:
        UserError: the setting demands a GPU, and torch finds none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError(
            "trainer.accelerator=gpu: torch finds no CUDA device on this machine; "
            "use trainer.accelerator=auto or cpu"
        )
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def check_devices(config: TrainerConfig) -> None:
    """Check that this machine has the devices that the settings demand.

    Raises:
        UserError: it has no GPU, too few of them, or none that multiplies in float8.
    """
    if (
        pick_device(config.accelerator).type == "cuda"
        and config.devices > torch.cuda.device_count()
    ):
        count = torch.cuda.device_count()
        raise UserError(
            f"trainer.devices={config.devices}: torch finds {count} GPU{'' if count == 1 else 's'} here; "
            f"use trainer.devices={count}, or trainer.accelerator=cpu"
        )
    if config.precision == "float8":
        check_float8(pick_device(config.accelerator))


def check_launched_devices(
    config: TrainerConfig, process_group: ProcessGroup, device: torch.device
) -> None:
    """Check the processes and devices that torchrun or srun brings, on all ranks together.

    Raises:
        UserError: on every rank, if machines differ in their number of processes, or a GPU cannot multiply in float8.
    """
    if config.strategy == "hsdp":
        counts = process_group.all_gather(process_group.local_size)
        if len(set(counts)) > 1:
            raise UserError(
                f"trainer.strategy=hsdp: some machines have {min(counts)} processes and others {max(counts)}; "
                f"start equally many on all, or use trainer.strategy=fsdp"
            )
    if config.precision == "float8":
        with process_group.fail_together():
            check_float8(device)


def lightning_devices(device: torch.device) -> list[int] | int:
    """Return the device of this process as Lightning's Trainer takes it: the index of the GPU in use, or one CPU."""
    return [torch.cuda.current_device()] if device.type == "cuda" else 1


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies in bf16; emulated, bf16 is up to ten times slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def lightning_precision(setting: str, device: torch.device) -> str:
    """Translate trainer.precision into Lightning's name; `auto` is bf16 where the device computes it natively."""
    if setting == "auto":
        setting = "bf16" if has_fast_bf16(device) else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "float8": "bf16-mixed"}[setting]


def autocast(setting: str, device: torch.device) -> AbstractContextManager[None]:
    """Return the autocast that Lightning puts around a training step, for forward passes outside of one."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=lightning_precision(setting, device) == "bf16-mixed"
    )


def allow_cudnn_attention(is_allowed: bool) -> None:
    """Let attention on a GPU use cuDNN's kernels, which are the fastest for a shape that comes again and again.

    A new shape costs them a tenth of a second, and with a mask two. Their gradients under a mask can be NaN (pytorch
    issue 196678).
    """
    torch.backends.cuda.enable_cudnn_sdp(is_allowed)


def micro_batch_tokens(device: torch.device) -> int | None:
    """Return the tokens of a micro-batch beyond which a CPU gets no faster and pays for padding; None: no limit."""
    return 2048 if device.type == "cpu" else None
