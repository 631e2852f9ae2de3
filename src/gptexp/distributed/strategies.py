"""How ranks share the work: each a whole copy (DDP), or each a part of every matrix (FSDP2)."""

from typing import Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from gptexp.config import schema
from gptexp.distributed import devices
from gptexp.distributed.process_group import ProcessGroup


def strategy(settings: schema.TrainerConfig, world: ProcessGroup) -> Any:
    """Lightning's strategy for the config."""
    if settings.strategy == "fsdp":
        from lightning.pytorch.strategies import ModelParallelStrategy

        return ModelParallelStrategy(data_parallel_size=world.size, tensor_parallel_size=1)
    if world.size == 1:
        return "auto"
    from lightning.pytorch.strategies import DDPStrategy

    return DDPStrategy(find_unused_parameters=False, gradient_as_bucket_view=True)


def shard(model: Any, mesh: Any, settings: schema.TrainerConfig) -> None:
    """FSDP2 (arXiv 2304.11277; torch.distributed.fsdp.fully_shard): each block, then what is left.

    On a GPU in bf16 the blocks' parameters are gathered in bf16 and their gradients summed in fp32. What goes from
    block to block stays in fp32, as without sharding: autocast alone says what is computed in bf16.
    """
    dimension = mesh["data_parallel"]
    on_gpu = dimension.device_type == "cuda"
    bf16 = on_gpu and devices.precision(settings.precision, torch.device("cuda")) == "bf16-mixed"
    plain = MixedPrecisionPolicy(cast_forward_inputs=False)
    policy = (
        MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        if bf16
        else plain
    )
    for block in (*(model.encoder.blocks if model.encoder else ()), *model.blocks):
        fully_shard(block, mesh=dimension, mp_policy=policy)
    fully_shard(model, mesh=dimension, mp_policy=plain)
    # Validation and training call `loss`, which reaches the root's own parameters without its forward.
    torch.distributed.fsdp.register_fsdp_forward_method(model, "loss")
