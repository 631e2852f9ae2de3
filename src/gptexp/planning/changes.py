"""The cheapest change of the settings with which a run fits into the memory of its devices."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gptexp.config.parallelism import round_up
from gptexp.config.schema import Config
from gptexp.planning.device_memory import MARGIN, DeviceMemory, Placement, plan_memory
from gptexp.planning.workload import Workload

Changes = dict[str, Any]  # settings of `trainer`, and their new values
MAX_DEVICES = 65_536
DEVICES_PER_NODE = 8


def find_change(
    config: Config, workload: Workload, device_bytes: int, *, on_gpu: bool, bf16: bool
) -> tuple[list[str], DeviceMemory] | None:
    """Return the words of the cheapest change that fits, and its memory; None: none of those tried does.

    Cheap is what costs the least time: smaller micro-batches, then recomputed activations, then weights that the
    devices of the run share, then more devices, then weights in the memory of the host.
    """
    for words in _changes(config, on_gpu):
        changed = _apply(config, words)
        memory = plan_memory(changed, workload, on_gpu=on_gpu, bf16=bf16, device_bytes=device_bytes)
        if memory.total <= MARGIN * device_bytes:
            return [f"trainer.{key}={str(value).lower()}" for key, value in words.items()], memory
    return None


def _changes(config: Config, on_gpu: bool) -> Iterator[Changes]:
    """Yield changes of the trainer's settings, the cheapest first."""
    trainer = config.trainer
    placement = Placement.of(trainer)
    kinds = {"none": ("none", "selective", "full"), "selective": ("selective", "full")}
    recomputations = kinds.get(trainer.activation_checkpointing, ("full",))
    strategies: list[Changes] = [{}]
    if on_gpu and placement.devices > 1 and trainer.strategy != "fsdp":
        strategies.append({"strategy": "fsdp"})
    for strategy in strategies:
        for kind in recomputations:
            recomputed = {} if kind == trainer.activation_checkpointing else _recompute(kind)
            for size in _smaller_sizes(trainer.micro_batch_size or placement.sequences):
                smaller = {} if size is None else {"micro_batch_size": size}
                yield strategy | recomputed | smaller
    if not on_gpu:
        return
    devices = placement.devices
    while devices < MAX_DEVICES:
        devices *= 2
        nodes = max(1, devices // DEVICES_PER_NODE)
        changes: Changes = {"strategy": "fsdp", "devices": devices // nodes}
        changes |= {"nodes": nodes} if nodes != trainer.nodes else {}
        groups, rest = divmod(devices // nodes * nodes, trainer.processes_per_sequence)
        if rest:
            continue
        batch = round_up(trainer.global_batch_size, groups)
        changes |= {"global_batch_size": batch} if batch != trainer.global_batch_size else {}
        yield changes | _recompute("full") | {"micro_batch_size": 1}
    if placement.tensor == 1:
        yield {"strategy": "fsdp", "cpu_offload": True, **_recompute("full"), "micro_batch_size": 1}


def _recompute(kind: str) -> Changes:
    return {"activation_checkpointing": kind}


def _smaller_sizes(size: int) -> Iterator[int | None]:
    """Yield None for the present size, then its halves."""
    yield None
    while size > 1:
        size //= 2
        yield size


def _apply(config: Config, words: Changes) -> Config:
    return replace(config, trainer=replace(config.trainer, **words))
