"""Positions and sizes that a pass over a batch needs as numbers of the host.

A GPU that computed them would keep the host waiting for the result. Computed on the CPU before the batch moves to the
GPU, they let the host run ahead.

Legend: B sequences, T tokens, F rows of features, N targets.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gptexp.model.features import CONTINUE


class BatchIndex(NamedTuple):
    """A tuple, so that FSDP and Lightning find the tensors in it.

    targets: [N], positions of the targets in the flattened [B, T], with an encoder those of the decoder; None: all.
    continuing: [K], those of the N targets that a row of features follows.
    next_rows: [K], positions of these rows in the flattened [B, F].
    rows: positions of the embedded rows in the flattened [B, F].
    source_size, target_size: with an encoder, tokens of the longest source and of the decoder's longest input.
    """

    targets: Tensor | None = None
    continuing: Tensor | None = None
    next_rows: Tensor | None = None
    rows: Tensor | None = None
    source_size: int = 0
    target_size: int = 0


def index_batch(
    tokens: Tensor,
    targets: Tensor,
    prefix: Tensor | None = None,
    features: Tensor | None = None,
    *,
    has_encoder: bool = False,
    predicts_features: bool = False,
) -> BatchIndex:
    """Find the positions and sizes of the arguments of Transformer.loss."""
    source_size = target_size = 0
    if has_encoder:
        assert prefix is not None
        source_size, target_size = int(prefix.max()), tokens.shape[1] - int(prefix.min()) + 1
        _, _, targets = split_source_and_target(tokens, targets, prefix, source_size, target_size)
    rows = continuing = next_rows = None
    if features is not None:
        rows = find_first((tokens < 0).sum(dim=1), features.shape[1])
    if predicts_features:
        assert features is not None
        continues = targets == CONTINUE
        continuing = torch.nonzero(targets[targets >= 0] == CONTINUE).flatten()
        next_rows = find_first(continues.sum(dim=1), features.shape[1])
    positions = torch.nonzero(targets.flatten() >= 0).flatten()
    return BatchIndex(
        None if len(positions) == targets.numel() else positions,
        continuing,
        next_rows,
        rows,
        source_size,
        target_size,
    )


def find_first(counts: Tensor, size: int) -> Tensor:
    """Return the positions of the first counts [B] entries of each sequence in the flattened [B, size]."""
    is_first = torch.arange(size, device=counts.device)[None] < counts[:, None]
    return torch.nonzero(is_first.flatten()).flatten()


def split_source_and_target(
    tokens: Tensor, targets: Tensor, prefix: Tensor, source_size: int, target_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Split rows [B, T] of prompt and completion: source [B, S], input of the decoder [B, U], and its targets [B, U].

    The decoder starts with the last token of the source, the separator. Targets beyond the row are negative.
    """
    T = tokens.shape[1]  # noqa: N806
    positions = prefix[:, None] - 1 + torch.arange(target_size, device=tokens.device)  # [B, U]
    is_beyond = positions >= T
    positions = positions.clamp(max=T - 1)
    return (
        tokens[:, :source_size],
        tokens.gather(1, positions),
        targets.gather(1, positions).masked_fill(is_beyond, -1),
    )
