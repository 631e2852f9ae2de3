"""Decide how a training launches its kernels: compiled or not, by cuDNN's attention, as CUDA graphs."""

import sys
from collections.abc import Collection

import lightning as L
import torch

from gptexp.distributed.compiler import should_compile
from gptexp.distributed.devices import allow_cudnn_attention
from gptexp.tasks.layout import Layout
from gptexp.training.compilation import can_use_flex_attention, compile_model, needs_masks
from gptexp.training.micro_batch_graphs import MicroBatchGraphs, can_replay
from gptexp.training.module import TrainModule


def choose_kernels(
    module: TrainModule, layout: Layout, device: torch.device, callbacks: Collection[L.Callback]
) -> None:
    """Compile the model, let attention use cuDNN, and replay steps as CUDA graphs, where that is faster.

    Args:
        callbacks: those of the user.
    """
    config, model = module.config, module.model
    trainer, is_rank_zero = config.trainer, module.process_group.is_rank_zero
    has_masks = needs_masks(model.config, layout, trainer.context_parallel)
    if should_compile(config, device, prints=is_rank_zero):
        if is_rank_zero:
            print(
                "compiling the model: the first steps take longer (trainer.compile=false avoids it)",
                file=sys.stderr,
            )
        compile_model(
            model,
            has_fixed_lengths=layout.has_fixed_lengths,
            has_block_masks=has_masks
            and can_use_flex_attention(model.config, device, prints=is_rank_zero),
            deterministic=trainer.deterministic,
            memory_budget=trainer.activation_memory_budget,
        )
    has_dense_masks = has_masks and model.build_block_mask is None
    allow_cudnn_attention(layout.has_fixed_lengths and not has_dense_masks)
    if can_replay(trainer, model, layout, device, module.process_group.size, callbacks):
        module.graphs = MicroBatchGraphs(module.compute_micro_batch, module.parameters(), device)
