"""Memory of one device in a training: what lies in it at the peak, for the strategy and the precision of a run."""

from dataclasses import dataclass, replace

from gptexp.config.schema import Config, TrainerConfig
from gptexp.model.cost import count_parameters
from gptexp.model.memory import Memory, estimate_memory
from gptexp.planning.workload import Workload

GIB = 2**30
# Assumed beside the tensors: of a GPU's context with its libraries, of NCCL, and of blocks that the allocator cannot
# reuse, as a share of the tensors.
DRIVER_BYTES, NCCL_BYTES, GPU_SLACK = int(0.6 * GIB), int(0.4 * GIB), 0.05
# Measured on a CPU (benchmarks/plan.py): Python with PyTorch, Lightning and what they import at the first step; and the
# holes in glibc's heap, as a share of the activations and of logits that are computed at once.
PROCESS_BYTES, CPU_SLACK = int(0.42 * GIB), 0.62
PROCESS, CHECKPOINT_COPY = "Python and libraries", "copy for checkpoints"  # parts on a CPU
MARGIN = 0.95  # share of a device's memory up to which a plan says that a run fits
CPU_MICRO_BATCH_TOKENS = 2048  # equal to devices.micro_batch_tokens, which takes a torch device
MAX_FULL_GRADIENTS = 0.1  # equal to that of distributed/strategies.py


@dataclass(frozen=True)
class Placement:
    """The processes of a run, and how they share its work.

    sequences: of the global batch that one process computes. shards: processes that hold parts of each weight.
    """

    devices: int
    sequences: int
    tensor: int
    context: int
    shards: int

    @classmethod
    def of(cls, trainer: TrainerConfig) -> "Placement":
        """Return how `trainer` divides the work over its devices and nodes."""
        devices = trainer.devices * trainer.nodes
        groups = max(1, devices // trainer.processes_per_sequence)
        shards = 1
        if trainer.strategy == "hsdp":
            shards = trainer.devices
        elif trainer.strategy == "fsdp":
            shards = max(1, devices // trainer.tensor_parallel)
        return cls(
            devices,
            max(1, trainer.global_batch_size // groups),
            trainer.tensor_parallel,
            trainer.context_parallel,
            shards,
        )


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device at the peak of a training step, by kind.

    moment: of the step at which the peak is. micro_batch: sequences that the device computes at once.
    weights, permanent: bytes that no smaller batch makes smaller; permanent: with the optimizer's state.
    on_host: bytes that trainer.cpu_offload keeps in the host's memory for this device.
    """

    parts: dict[str, int]
    moment: str
    micro_batch: int
    weights: int
    permanent: int
    on_host: int = 0

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def of_steps(self) -> int:
        """Bytes of training steps alone, on a CPU: without the process before and the copies for checkpoints."""
        return self.total - sum(self.parts.get(name, 0) for name in (PROCESS, CHECKPOINT_COPY))


def plan_memory(
    config: Config, workload: Workload, *, on_gpu: bool, bf16: bool, device_bytes: int | None
) -> DeviceMemory:
    """Estimate the memory of one device.

    Args:
        bf16: under autocast.
        device_bytes: of the device, from which FSDP2 decides how to add up gradients; None: not known.
    """
    trainer = config.trainer
    placement = Placement.of(trainer)
    micro_batch = count_micro_batch(trainer, placement, workload, on_gpu)
    memory = _tensors(config, workload, placement, micro_batch, on_gpu, bf16, device_bytes)
    on_host = 0
    if trainer.cpu_offload and on_gpu:
        on_host = memory.weights + memory.optimizer + memory.gradients
        memory = replace(memory, weights=0, optimizer=0, gradients=0, accumulated=0, workspace=0)
    moments = memory.moments()
    if not workload.is_counted:
        moments = {"step of the optimizer": moments["step of the optimizer"]}
    elif not on_gpu:
        start = moments["start of the backward pass"]
        shaped = start["activations"] + (0 if memory.head_gradient else start["logits"])
        start["allocator slack"] = int(CPU_SLACK * shaped)
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    parts = {name: count for name, count in moments[moment].items() if count}
    if on_gpu:
        parts["allocator slack (assumed)"] = int(GPU_SLACK * sum(parts.values()))
        parts["driver and libraries (assumed)"] = DRIVER_BYTES
        if placement.devices > 1:
            parts["NCCL (assumed)"] = NCCL_BYTES
    else:
        parts[CHECKPOINT_COPY] = memory.weights + memory.optimizer
        parts[PROCESS] = PROCESS_BYTES
    permanent = memory.weights + memory.optimizer
    return DeviceMemory(parts, moment, micro_batch, memory.weights, permanent, on_host)


def count_micro_batch(
    trainer: TrainerConfig, placement: Placement, workload: Workload, on_gpu: bool
) -> int:
    """Return the sequences that a device computes at once, as a run begins."""
    count = min(trainer.micro_batch_size or placement.sequences, placement.sequences)
    if not on_gpu and not trainer.is_sharded:
        longest = max(1, workload.longest + workload.source)
        count = min(count, max(1, CPU_MICRO_BATCH_TOKENS // longest))
    return count


def _tensors(
    config: Config,
    workload: Workload,
    placement: Placement,
    micro_batch: int,
    on_gpu: bool,
    bf16: bool,
    device_bytes: int | None,
) -> Memory:
    """Count the tensors of a device. A process of tensor parallelism has a part of each block's heads and features."""
    trainer, model = config.trainer, workload.model
    if placement.tensor > 1:
        model = replace(
            model,
            heads=max(1, model.heads // placement.tensor),
            kv_heads=max(1, model.kv_heads // placement.tensor),
            d_ff=max(1, model.d_ff // placement.tensor),
        )
    if (
        not workload.is_counted
    ):  # activations of features are not counted: those of one token stand in
        model = replace(model, feature_size=0, predicts_features=False)
        micro_batch = 1
    tokens = -(-workload.longest // placement.context) if workload.is_counted else 1
    source = workload.source if workload.is_counted else min(workload.source, 1)
    targets = micro_batch * min(tokens, round(workload.targets / placement.context))
    keeps = not on_gpu or (
        device_bytes is not None
        and 4 * count_parameters(model) <= MAX_FULL_GRADIENTS * device_bytes
    )
    return estimate_memory(
        model,
        micro_batch,
        tokens,
        source=source,
        targets=targets,
        optimizer="muon" if config.optim.kind == "muon" else "adamw",
        bf16=bf16,
        activation_checkpointing=trainer.activation_checkpointing,
        on_gpu=on_gpu,
        accumulates=micro_batch < placement.sequences
        or (placement.shards == 1 and placement.devices > 1),
        shards=placement.shards,
        keeps_full_gradients=keeps,
        adapters=workload.adapters,
        trained=workload.trained,
    )
