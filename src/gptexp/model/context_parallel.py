"""Context parallelism: the ranks of a group share the tokens of each sequence, for contexts too long for one device.

A sequence is cut into two chunks a rank. Rank r computes the chunks r and 2R - 1 - r of R ranks, so that causal
attention costs all of them the same. The keys and values of all chunks are gathered in each layer (Llama 3, Dubey et
al. 2024, arXiv 2407.21783, section 3.3.2). Everything else treats each token alone.

Legend: B sequences, T tokens, L tokens of a chunk, R ranks, G key/value heads, D size of a head.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed import _functional_collectives as collectives
from torch.nn import functional as F

from gptexp.model.masks import AttentionMask

# torch 2.13 has a new name for it
if hasattr(collectives, "all_gather_single_autograd"):
    all_gather = collectives.all_gather_single_autograd
else:
    all_gather = collectives.all_gather_tensor_autograd


@dataclass(frozen=True, eq=False)
class ContextGroup:
    """The ranks that share each sequence. `group` is a process group of torch.distributed."""

    group: Any
    rank: int
    size: int

    @property
    def chunks(self) -> tuple[int, int]:
        """The two chunks of this rank."""
        return self.rank, 2 * self.size - 1 - self.rank

    def pad(self, x: Tensor, value: int) -> Tensor:
        """Pad x [B, T] on the right to whole chunks. Causal attention hides the padding from all tokens before it."""
        return F.pad(x, (0, -x.shape[1] % (2 * self.size)), value=value)

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return the positions [2 L] of this rank's tokens in a sequence of whole chunks."""
        length = tokens // (2 * self.size)
        offsets = torch.arange(length, device=device)
        return torch.cat([chunk * length + offsets for chunk in self.chunks])

    def gather(self, x: Tensor) -> Tensor:
        """Gather keys or values [B, G, 2 L, D] of all ranks, as [B, G, T, D] in the order of the sequence."""
        chunks = x.unflatten(2, (2, -1)).movedim(2, 0).contiguous()  # [2, B, G, L, D]
        chunks = all_gather(chunks, 0, self.group)  # [2 R, B, G, L, D]
        firsts, seconds = chunks[::2], chunks[1::2].flip(0)
        return torch.cat((firsts, seconds)).movedim(0, 2).flatten(2, 3)


@dataclass(frozen=True, eq=False)
class ChunkedAttention:
    """Masks of this rank's chunks. Queries of a chunk see no key after it: [L, end of the chunk]."""

    group: ContextGroup
    masks: tuple[AttentionMask, AttentionMask]
