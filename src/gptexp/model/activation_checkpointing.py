"""Activation checkpointing: the backward pass computes activations again that the forward pass has not kept.

`full` keeps the input of each block and nothing else (Chen et al. 2016, arXiv 1604.06174). `selective` also keeps the
results of its matrix products and of attention, which take the most time to compute: the backward pass computes norms,
activation functions, rotations and casts again (Korthikanti et al. 2022, arXiv 2205.05198).
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from gptexp.model.attention import AttentionContext
from gptexp.model.transformer import Transformer

PRODUCTS = ("mm", "addmm", "_scaled_mm", "_grouped_mm")
ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)


def checkpoint_activations(model: Transformer, kind: str) -> None:
    """Make the blocks of `model` recompute activations in training: `full`, `selective` or `none` (see above).

    It happens inside of each block's forward: a compiler sees it, and FSDP gathers a block's weights once for it.
    """
    if kind == "none":
        return
    contexts: dict[str, Any] = {}
    if kind == "selective":
        kept = _operations(PRODUCTS)
        if not model.config.dropout:  # else attention draws random numbers, as the forward pass did
            kept |= _operations(ATTENTION) | {torch.ops.higher_order.flex_attention}
        policy = partial(_choose, kept)
        # torch's advice on regions with operations in place, of which blocks have none
        logging.getLogger("torch._higher_order_ops.wrap").setLevel(logging.ERROR)
        contexts["context_fn"] = partial(create_selective_checkpoint_contexts, policy)
    encoder = model.encoder
    for block in (*(encoder.blocks if encoder else ()), *model.blocks):
        block.forward = _recompute(block, block.forward, contexts)


def _recompute(
    block: nn.Module, forward: Callable[..., Tensor], contexts: dict[str, Any]
) -> Callable[[Tensor, AttentionContext], Tensor]:
    def recomputed(x: Tensor, context: AttentionContext) -> Tensor:
        if not block.training:
            return forward(x, context)
        return checkpoint(forward, x, context, use_reentrant=False, **contexts)

    return recomputed


def _operations(names: tuple[str, ...]) -> set[Any]:
    return {getattr(torch.ops.aten, name).default for name in names}


def _choose(kept: set[Any], _context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    if operation in kept:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
