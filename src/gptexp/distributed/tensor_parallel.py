"""Tensor parallelism: each rank of a group computes some heads and some inner features of every block.

Queries, keys, values, gate and up are divided by their outputs; output and down by their inputs, and their results are
summed over the ranks (Megatron-LM, Shoeybi et al. 2019, arXiv 1909.08053). Embedding, norms and head stay as they are:
all ranks of a group compute them alike.
"""

import logging
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)


def parallelize_blocks(model: Any, mesh: DeviceMesh) -> None:
    """Divide the blocks of a Transformer over a mesh of one dimension. All ranks have the same weights before."""
    # torch's advice about gathering a tensor that is sharded over two dimensions
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    for block in (*(model.encoder.blocks if model.encoder else ()), *model.blocks):
        plan: dict[str, ParallelStyle] = {
            **_plan_attention(block.attention, "attention"),
            **_plan_attention(block.cross_attention, "cross_attention"),
            # One tensor for gate and up: their gradients for it are summed over the ranks once.
            "feed_forward": PrepareModuleInput(
                input_layouts=Replicate(), desired_input_layouts=Replicate()
            ),
            "feed_forward.up": ColwiseParallel(),
            "feed_forward.down": RowwiseParallel(),
        }
        if block.feed_forward.gate is not None:
            plan["feed_forward.gate"] = ColwiseParallel()
        # src_data_rank=None: every rank has the weights, and nothing is sent.
        parallelize_module(block, mesh, plan, src_data_rank=None)


def _plan_attention(attention: nn.Module | None, name: str) -> dict[str, ParallelStyle]:
    if attention is None:
        return {}
    plan: dict[str, ParallelStyle] = {
        name: PrepareModuleInput(
            input_layouts=(Replicate(), None), desired_input_layouts=(Replicate(), None)
        ),
        f"{name}.output": RowwiseParallel(),
    }
    plan |= {f"{name}.{layer}": ColwiseParallel() for layer in ("query", "key", "value")}
    if (
        attention.query_norm is not None
    ):  # it has the heads in dimension 2, and one gain for all of them
        for layer in ("query_norm", "key_norm"):
            plan[f"{name}.{layer}"] = SequenceParallel(sequence_dim=2, use_local_output=True)
    return plan
