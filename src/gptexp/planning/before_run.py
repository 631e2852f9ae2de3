"""Say before a run starts that it will not fit into memory."""

from dataclasses import replace

import torch

from gptexp.config.schema import Config
from gptexp.distributed.devices import lightning_precision, pick_device
from gptexp.errors import UserError
from gptexp.machine import available_memory, largest_memory
from gptexp.planning.changes import find_change
from gptexp.planning.describe import format_bytes
from gptexp.planning.device_memory import PROCESS, plan_memory
from gptexp.planning.workload import Workload, describe_workload

KNOWN_OPTIMIZERS = ("muon", "adamw")


def check_memory(config: Config, processes: int | None = None, local: int = 1) -> str | None:
    """Return a warning where a run probably does not fit into the memory of its devices; None: it fits, or is unknown.

    Args:
        processes, local: those that a launcher has started, on all machines and on this one; None: as the settings say.

    Raises:
        UserError: the weights and the optimizer's state alone are larger than all memory of a device.
    """
    if processes is not None:
        trainer = replace(config.trainer, devices=local, nodes=max(1, processes // local))
        config = replace(config, trainer=trainer)
    device = pick_device(config.trainer.accelerator)
    on_gpu = device.type == "cuda"
    shared = 1 if on_gpu else config.trainer.devices  # processes that share the memory
    largest, free = largest_memory(), available_memory()
    if on_gpu:
        largest = free = torch.cuda.get_device_properties(device).total_memory
    if largest is None or free is None or config.model.kind != "transformer":
        return None
    bf16 = lightning_precision(config.trainer.precision, device) == "bf16-mixed"
    workload = describe_workload(config)
    _check_permanent(config, workload, largest // shared, on_gpu=on_gpu, bf16=bf16)
    memory = plan_memory(config, workload, on_gpu=on_gpu, bf16=bf16, device_bytes=free)
    limit = free // shared + memory.parts.get(PROCESS, 0)  # this process has taken its part
    if memory.total <= limit:
        return None
    advice = "no smaller micro-batch helps"
    change = find_change(config, workload, limit, on_gpu=on_gpu, bf16=bf16)
    if change:
        words, changed = change
        advice = f"{format_bytes(changed.total)} with {' '.join(words)}"
    consequence = "the run will look for a smaller micro-batch" if on_gpu else "Linux may kill it"
    return (
        f"memory: training takes up to about {format_bytes(memory.total)}, and {format_bytes(limit)} are free: "
        f"{consequence}; {advice} (`gptexp plan` with the same words has the account)"
    )


def _check_permanent(
    config: Config, workload: Workload, largest: int, *, on_gpu: bool, bf16: bool
) -> None:
    """Refuse a run whose weights and optimizer are larger than the memory, however small its batches are.

    The vocabulary may turn out smaller than assumed, and optimizers of others may have less state: these parts do not
    count.
    """
    model = replace(workload.model, vocab_size=config.model.vocab_size or 1)
    smallest = replace(workload, model=model)
    memory = plan_memory(config, smallest, on_gpu=on_gpu, bf16=bf16, device_bytes=largest)
    permanent = memory.permanent
    if config.optim.kind not in KNOWN_OPTIMIZERS:
        permanent = memory.weights
    if permanent <= largest:
        return
    change = find_change(config, workload, largest, on_gpu=on_gpu, bf16=bf16) if on_gpu else None
    advice = f"type: {' '.join(change[0])}" if change else "use a smaller model"
    raise UserError(
        f"model={config.model.size}: weights and optimizer take {format_bytes(permanent)}, and a device here has "
        f"{format_bytes(largest)}; {advice}. `gptexp plan` with the same words has the account"
    )
