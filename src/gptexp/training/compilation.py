"""Compile a Transformer for training, in place: its parameters, checkpoints and exports stay as they are."""

import sys
from collections.abc import Callable
from typing import Any

import torch
import torch._functorch.config
import torch._inductor.config
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from gptexp.distributed.compiler import remove_unfinished_builds
from gptexp.model import Transformer, TransformerConfig
from gptexp.tasks.layout import Layout
from gptexp.wording import first_line

MAX_GRAPHS = 64  # of one function, before torch runs it uncompiled; torch's own limit is 8
MIN_FLEX_HEAD = 16  # smallest width of a head that the kernels of FlexAttention take


def compile_model(
    model: Transformer,
    *,
    has_fixed_lengths: bool,
    has_block_masks: bool = False,
    deterministic: bool = False,
    memory_budget: float | None = None,
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Compile each block, and the head with the loss. Blocks of one kind have one graph for training, and one without.

    Args:
        has_fixed_lengths: a graph serves one shape, and a second one any. Else each serves any shape.
        has_block_masks: attention that is more than causal has masks of FlexAttention.
        deterministic: no kernel is chosen by measuring, so that another process computes the same to the bit.
        memory_budget: fraction of a block's activations that are kept for the backward pass; None: all.
    """
    remove_unfinished_builds()
    # DDP overlaps its exchange with the backward pass of other blocks: no need to cut the graph of one at its buckets.
    torch._dynamo.config.optimize_ddp = False
    torch._dynamo.config.recompile_limit = MAX_GRAPHS
    if hasattr(torch._inductor.config, "deterministic"):  # from torch 2.10 on
        torch._inductor.config.deterministic = deterministic
    torch._functorch.config.activation_memory_budget = (
        1.0 if memory_budget is None else memory_budget
    )
    options: dict[str, Any] = {"backend": backend, "dynamic": None if has_fixed_lengths else True}
    for block in (*(model.encoder.blocks if model.encoder else ()), *model.blocks):
        block.compile(**options)
    model.chunk_loss = torch.compile(model.chunk_loss, **options)  # type: ignore[method-assign]
    if has_block_masks:
        model.build_block_mask = torch.compile(create_block_mask, **options)


def needs_masks(config: TransformerConfig, layout: Layout, context_parallel: int = 1) -> bool:
    """Return whether attention in training is more than causal, or bidirectional over sequences of one length.

    Ranks that share sequences attend from later chunks of a sequence to the whole of it.
    """
    is_plain = config.arch == "decoder" or (config.arch == "encoder" and layout.stream)
    has_parts = bool(config.window) or context_parallel > 1
    return has_parts or not is_plain or getattr(layout, "document_mask", False)


def can_use_flex_attention(
    config: TransformerConfig, device: torch.device, *, prints: bool = True
) -> bool:
    """Return whether the masks of a compiled model can be those of FlexAttention.

    It skips the blocks of scores that a mask forbids, and keeps no dense mask of each layer for the backward pass. It
    has no dropout, and no backward pass on a CPU.

    Args:
        prints: print a line where it fails.
    """
    if device.type != "cuda" or config.dropout or config.head_dim < MIN_FLEX_HEAD:
        return False
    try:
        _run_flex_attention(config, device)
    except Exception as error:
        if prints:
            print(
                f"attention has dense masks, and is slower for it: FlexAttention fails here ({first_line(error)})",
                file=sys.stderr,
            )
        return False
    return True


def _run_flex_attention(config: TransformerConfig, device: torch.device) -> None:
    """Compile FlexAttention, and run it forward and backward."""
    query, key, value = (
        torch.ones(1, heads, 128, config.head_dim, device=device, requires_grad=True)
        for heads in (config.heads, config.kv_heads, config.kv_heads)
    )
    blocks = create_block_mask(
        lambda _row, _head, query, key: key <= query, None, None, 128, 128, device=device
    )
    attend = torch.compile(flex_attention)
    y = attend(query, key, value, block_mask=blocks, enable_gqa=config.heads != config.kv_heads)
    assert isinstance(y, torch.Tensor)
    y.sum().backward()
