"""A look into the final model: the loss of each token of a held-out sequence, and the attention over it."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional as F

from gptexp.data.batch import IGNORE, Batch
from gptexp.data.token_store import TokenStore
from gptexp.distributed.sharding import compute_device
from gptexp.model import Transformer
from gptexp.model.attention import Attention, AttentionContext
from gptexp.model.masks import SequenceLayout
from gptexp.tasks.layout import Layout
from gptexp.tasks.token_view import token_text

CANDIDATES = 16  # sequences from which one is chosen
MAX_TOKENS = 512  # of the sequence
MAX_ATTENDED, MAX_WEIGHTS = 64, 300_000  # tokens that attention is kept for, and its weights


@torch.no_grad()
def look_into(model: Transformer, layout: Layout, store: TokenStore, split: str) -> dict[str, Any]:
    """Return the record `insight` of a run; {} for models that compute on more than tokens, or are sharded.

    Attention is kept for the last tokens of the sequence, quantised to 255 steps.
    """
    reads_tokens = model.config.arch != "encoder_decoder" and not model.config.feature_size
    is_own = type(model).forward is Transformer.forward
    if isinstance(model, FSDPModule) or not (reads_tokens and is_own):
        return {}
    batch = _choose_sequence(layout, store, split)
    model.eval()
    with _record_attention(model) as layers:
        losses = _token_losses(model, batch)
    tokens = batch.tokens[0].tolist()
    if layout.predicts_next:  # a token is scored at the position before it
        last = int(batch.targets[0, -1])
        tokens, losses = [*tokens, last] if last != IGNORE else tokens, [None, *losses]
    texts = [token_text(token, store.tokenizer) for token in tokens]
    prompt_tokens = int(batch.prefix[0]) if batch.prefix is not None else 0
    sample = {"tokens": texts, "losses": losses[: len(texts)], "prompt_tokens": prompt_tokens}
    return {"sample": sample, "attention": _pack_attention(layers) if layers else None}


def _choose_sequence(layout: Layout, store: TokenStore, split: str) -> Batch:
    """Return the longest of the first sequences whose attention is kept whole; else the shortest, cut to MAX_TOKENS."""
    dataset = layout.dataset(store, split, None)
    batches = []
    for number in range(min(CANDIDATES, len(dataset))):
        index = np.array([number])
        batches.append(dataset.batch(index, 0, index).sides()[0])
    lengths = [_length(batch) for batch in batches]
    fitting = [length for length in lengths if length <= MAX_ATTENDED]
    length = max(fitting) if fitting else min(lengths)
    batch = batches[lengths.index(length)]
    length = min(length, MAX_TOKENS)
    cut = batch.rows(slice(1), length)
    prefix = None if cut.prefix is None else cut.prefix.clamp(max=length)
    return replace(cut, lengths=None, prefix=prefix)


def _length(batch: Batch) -> int:
    return int(batch.lengths[0]) if batch.lengths is not None else batch.tokens.shape[1]


def _token_losses(model: Transformer, batch: Batch) -> list[float | None]:
    """Return the cross-entropy in nats at each position; None where there is no target."""
    device = compute_device(model.embedding.weight)
    batch = move_data_to_device(batch, device)
    states = model(batch.tokens, SequenceLayout(batch.documents, batch.prefix))
    targets = batch.targets[0]
    losses = F.cross_entropy(
        model.logits(states[0]).float(), targets.clamp(min=0), reduction="none"
    )
    return [
        None if target == IGNORE else round(loss, 4)
        for target, loss in zip(targets.tolist(), losses.tolist(), strict=True)
    ]


@contextmanager
def _record_attention(model: Transformer) -> Iterator[list[Tensor]]:
    """Collect the weights [H, T, T] of each layer in the block's forward pass of one sequence."""
    layers: list[Tensor] = []
    heads = model.config.heads * model.config.layers
    count = min(MAX_ATTENDED, int((MAX_WEIGHTS / heads) ** 0.5))

    def record(attention: Attention, inputs: tuple[Tensor, AttentionContext]) -> None:
        layers.append(attention.weights(*inputs)[0, :, -count:, -count:].cpu())

    hooks = [
        module.register_forward_pre_hook(record)
        for module in model.blocks.modules()
        if isinstance(module, Attention)
    ]
    try:
        yield layers
    finally:
        for hook in hooks:
            hook.remove()


def _pack_attention(layers: list[Tensor]) -> dict[str, Any]:
    """Return the attention of all layers [H, T, T] as one text of bytes [L, H, T, T]."""
    weights = (torch.stack(layers) * 255).round().to(torch.uint8)
    shape = dict(zip(("layers", "heads", "tokens"), weights.shape, strict=False))
    return shape | {"weights": base64.b64encode(weights.numpy().tobytes()).decode()}
