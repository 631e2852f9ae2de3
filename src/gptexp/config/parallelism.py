"""Rules about processes that share matrices (trainer.tensor_parallel) or sequences (trainer.context_parallel)."""

import math
from typing import TYPE_CHECKING

from gptexp.errors import UserError

if TYPE_CHECKING:
    from gptexp.config.schema import Config


def check_processes(config: "Config", launched: int | None = None) -> None:
    """Check that the processes divide into groups that share sequences, and the global batch among these.

    Args:
        launched: number of processes that torchrun or srun has started; None: as many as the settings say.

    Raises:
        UserError: one is not a multiple of the other.
    """
    trainer = config.trainer
    shared, batch = trainer.processes_per_sequence, trainer.global_batch_size
    if launched is None:
        name, count = "trainer.devices x trainer.nodes", trainer.devices * trainer.nodes
        devices = round_up(trainer.devices, shared // math.gcd(shared, trainer.nodes))
        remedy = f"use trainer.devices={devices}"
    else:
        name, count = "the number of processes", launched
        remedy = f"start {round_up(launched, shared)} processes"
    if count % shared:
        raise UserError(
            f"{name} = {count} must be a multiple of "
            f"trainer.tensor_parallel x trainer.context_parallel = {shared}: {remedy}"
        )
    groups = count // shared
    if batch % groups:
        divided = "" if shared == 1 else f" / {shared} (trainer.tensor_parallel x context_parallel)"
        raise UserError(
            f"trainer.global_batch_size={batch} must be a multiple of {name}{divided} = {groups}: "
            f"use trainer.global_batch_size={round_up(batch, groups)}"
        )


def round_up(number: int, divisor: int) -> int:
    """Return the smallest multiple of `divisor` that is at least `number`."""
    return math.ceil(number / divisor) * divisor


def check_tensor_parallel(config: "Config") -> None:
    """Check that each block's matrices can be divided.

    Raises:
        UserError: the strategy or the model does not allow it.
    """
    model, count = config.model, config.trainer.tensor_parallel
    word = f"trainer.tensor_parallel={count}"
    if config.trainer.strategy != "fsdp":
        raise UserError(f"{word}: needs FSDP2; add trainer.strategy=fsdp")
    _check_own_blocks(config, word)
    if model.experts:
        raise UserError(f"{word}: experts cannot be divided; use model.experts=0")
    if config.trainer.cpu_offload:
        raise UserError(f"{word}: divided weights stay on the GPU; use trainer.cpu_offload=false")
    if config.optim.lora_rank:
        raise UserError(f"{word}: LoRA adapters cannot be divided; use optim.lora_rank=0")
    for name in ("heads", "kv_heads", "d_ff"):
        if getattr(model, name) % count:
            raise UserError(f"{word}: model.{name}={getattr(model, name)} is not a multiple of it")


def check_context_parallel(config: "Config") -> None:
    """Check that each sequence can be divided.

    Raises:
        UserError: the task or the model does not allow it.
    """
    model, count = config.model, config.trainer.context_parallel
    word = f"trainer.context_parallel={count}"
    if not config.task.divides_sequences:
        raise UserError(
            f"{word}: task={config.task.kind} has sequences of varying length, which are not divided; "
            f"use trainer.context_parallel=1"
        )
    _check_own_blocks(config, word)
    if model.arch != "decoder":
        raise UserError(f"{word}: works on causal attention alone; use model.arch=decoder")
    if model.experts:
        raise UserError(f"{word}: the load of experts is balanced within a whole sequence")
    if model.context % (2 * count):
        raise UserError(
            f"{word}: each process has two chunks of a sequence, so model.context={model.context} "
            f"must be a multiple of {2 * count}"
        )


def _check_own_blocks(config: "Config", word: str) -> None:
    if config.model.kind != "transformer":
        raise UserError(
            f"{word}: works on model.kind=transformer alone, not on {config.model.kind}"
        )
