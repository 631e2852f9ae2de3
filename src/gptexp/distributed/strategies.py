"""Data-parallel strategies: DDP (each rank has a full copy) and FSDP2 (each holds a part of every matrix)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.fabric.utilities.device_dtype_mixin import _update_properties
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)

from gptexp.config import schema
from gptexp.distributed.devices import lightning_precision
from gptexp.distributed.environment import is_launched
from gptexp.distributed.process_group import MIXED_BACKEND, ProcessGroup
from gptexp.distributed.tensor_parallel import parallelize_blocks

MAX_FULL_GRADIENTS = (
    0.1  # share of a GPU's memory that gradients may take while they are not sharded
)
MAX_FULL_MODEL = 0.3  # share of a rank's memory that a whole model may take for its evaluation


def lightning_strategy(config: schema.TrainerConfig, process_group: ProcessGroup) -> Any:
    """Return the strategy object, or the name, that Lightning's Trainer takes."""
    if config.is_sharded:
        return ShardedStrategy(process_group, config.cpu_offload)
    if process_group.size == 1:
        return "auto"
    return DDPStrategy(find_unused_parameters=False, gradient_as_bucket_view=True)


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for a module that shards itself."""

    def __init__(self, process_group: ProcessGroup, cpu_offload: bool) -> None:
        backend = MIXED_BACKEND if cpu_offload and torch.cuda.is_available() else None
        sizes = process_group.token_size, process_group.tensor_parallel
        super().__init__(*sizes, process_group_backend=backend)
        self.cpu_offload = cpu_offload

    def model_to_device(self) -> None:
        """Move the module, or, with CPU offload, only tell it where it computes: its weights stay."""
        if self.cpu_offload:
            _update_properties(self.lightning_module, device=self.root_device)
        else:
            super().model_to_device()


class LaunchedProcesses(ClusterEnvironment):
    """The processes that a launcher has started, for Lightning: each shows it no device but its own.

    Lightning's classes would read SLURM's variables under `srun torchrun`, and expect that a process sees the GPUs of
    all others on its machine.
    """

    def __init__(self, process_group: ProcessGroup) -> None:
        self.process_group = process_group

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def detect() -> bool:
        return is_launched()

    def world_size(self) -> int:
        return self.process_group.size

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self.process_group.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        """Return the index of the process among those whose devices Lightning sees: it is the only one."""
        return 0

    def node_rank(self) -> int:
        return self.process_group.rank // self.process_group.local_size


def can_hold_full_gradients(
    model: nn.Module, device: torch.device, process_group: ProcessGroup
) -> bool:
    """Return whether fp32 gradients that are not sharded take a small part of the memory of each rank's device.

    Ranks then exchange them once a step, and not once a micro-batch. All ranks call this.
    """
    if device.type != "cuda":
        return True
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    memory = torch.cuda.get_device_properties(device).total_memory
    return size <= MAX_FULL_GRADIENTS * min(process_group.all_gather(memory))


def can_hold_model(model: nn.Module, device: torch.device, process_group: ProcessGroup) -> bool:
    """Return whether the fp32 weights of a whole model fit well into the memory of each rank. All ranks call this."""
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        memory //= process_group.local_size
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    return size <= MAX_FULL_MODEL * min(process_group.all_gather(memory))


def build_mesh(
    config: schema.TrainerConfig, process_group: ProcessGroup, device: torch.device
) -> DeviceMesh:
    """Arrange all ranks for `shard_model`: with hsdp, as machines and the ranks of each."""
    size, local_size = process_group.size, process_group.local_size
    if config.strategy != "hsdp":
        sizes = process_group.token_size, process_group.tensor_parallel
        return init_device_mesh(
            device.type, sizes, mesh_dim_names=("data_parallel", "tensor_parallel")
        )
    sizes = size // local_size, local_size
    return init_device_mesh(device.type, sizes, mesh_dim_names=("replicate", "shard"))


@contextmanager
def keep_full_gradients(model: Any) -> Iterator[None]:
    """Let a sharded model add up gradients inside the block without an exchange; the next pass after it has one."""
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


def context_mesh(process_group: ProcessGroup, device: torch.device) -> DeviceMesh:
    """Create the groups of ranks that share sequences, on all ranks together; return that of this rank."""
    return init_device_mesh(
        device.type,
        (process_group.data_size, process_group.context_parallel, process_group.tensor_parallel),
        mesh_dim_names=("data_parallel", "context_parallel", "tensor_parallel"),
    )["context_parallel"]


def shard_model(model: Any, mesh: DeviceMesh, config: schema.TrainerConfig) -> None:
    """Shard a Transformer with FSDP2 (arXiv 2304.11277): each block, then the remaining parameters.

    With hsdp, each machine has a copy of the model that its ranks shard, and only gradients cross between machines.
    On a GPU in bf16, the parameters of blocks are gathered in bf16 and their gradients reduced in fp32. Activations
    between blocks stay in fp32, as without sharding: autocast alone decides what is computed in bf16.
    """
    ranks = mesh["replicate", "shard"] if config.strategy == "hsdp" else mesh["data_parallel"]
    if config.tensor_parallel > 1:
        parallelize_blocks(model, mesh["tensor_parallel"])
    is_on_gpu = ranks.device_type == "cuda"
    in_bf16 = (
        is_on_gpu and lightning_precision(config.precision, torch.device("cuda")) == "bf16-mixed"
    )
    plain = MixedPrecisionPolicy(cast_forward_inputs=False)
    policy = (
        MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        if in_bf16
        else plain
    )
    offload = CPUOffloadPolicy() if config.cpu_offload and is_on_gpu else OffloadPolicy()
    for block in (*(model.encoder.blocks if model.encoder else ()), *model.blocks):
        fully_shard(
            block,
            mesh=ranks,
            reshard_after_forward=config.reshard_after_forward,
            mp_policy=policy,
            offload_policy=offload,
        )
    fully_shard(model, mesh=ranks, mp_policy=plain, offload_policy=offload)
    # Training and validation call `loss` instead of `forward`: it has to gather the root's own parameters, too.
    torch.distributed.fsdp.register_fsdp_forward_method(model, "loss")
