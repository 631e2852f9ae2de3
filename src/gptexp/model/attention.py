"""Multi-head attention, softmax(Q K^T / sqrt(D)) V (Vaswani et al. 2017, arXiv 1706.03762), and its cache.

Legend: B sequences, T tokens, S tokens attended to, C width, H heads, G key/value heads, D size of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.model.norm import RMSNorm
from gptexp.model.positions import rotate

FORMULA_UP_TO = 512 * 512  # T x S


@dataclass
class KeyValueCache:
    """Keys and values of every layer, allocated once for the longest sequence."""

    keys: Tensor  # [layers, B, G, S, D]
    values: Tensor  # [layers, B, G, S, D]
    length: int = 0  # tokens seen so far

    @classmethod
    def empty(cls, layers: int, batch: int, heads: int, longest: int, head_size: int, like: Tensor) -> KeyValueCache:
        shape = (layers, batch, heads, longest, head_size)
        return cls(like.new_zeros(shape), like.new_zeros(shape))

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens' [B, G, T, D] and give back all so far, [B, G, S, D]."""
        end = self.length + key.shape[2]
        self.keys[layer, :, :, self.length : end] = key
        self.values[layer, :, :, self.length : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class Attention(nn.Module):
    """Self-attention with grouped key/value heads (arXiv 2305.13245) and optional QK-norm (arXiv 2010.04245)."""

    def __init__(
        self, width: int, heads: int, kv_heads: int, bias: bool, qk_norm: bool, dropout: float, layer: int
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_size = heads, kv_heads, width // heads
        self.layer, self.dropout = layer, dropout
        self.query = nn.Linear(width, heads * self.head_size, bias=bias)
        self.key = nn.Linear(width, kv_heads * self.head_size, bias=bias)
        self.value = nn.Linear(width, kv_heads * self.head_size, bias=bias)
        self.output = nn.Linear(heads * self.head_size, width, bias=bias)
        self.query_norm = RMSNorm(self.head_size) if qk_norm else None
        self.key_norm = RMSNorm(self.head_size) if qk_norm else None

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KeyValueCache | None,
    ) -> Tensor:
        """x [B, T, C] -> [B, T, C]. mask [B, 1, T, S], True where a token may look; None: causal."""
        B, T, _ = x.shape  # noqa: N806
        query = self.query(x).view(B, T, self.heads, self.head_size)
        key = self.key(x).view(B, T, self.kv_heads, self.head_size)
        value = self.value(x).view(B, T, self.kv_heads, self.head_size).transpose(1, 2)  # [B, G, T, D]
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        query, key = query.transpose(1, 2), key.transpose(1, 2)  # [B, H, T, D], [B, G, T, D]
        if rotary is not None:
            query, key = rotate(query, *rotary), rotate(key, *rotary)
        if cache is not None:
            key, value = cache.extend(self.layer, key.to(cache.keys.dtype), value.to(cache.values.dtype))
            query = query.to(key.dtype)
        y = attend(query, key, value.to(query.dtype), mask, self.dropout if self.training else 0.0)  # [B, H, T, D]
        return self.output(y.transpose(1, 2).reshape(B, T, -1))


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V: query [B, H, T, D], key and value [B, G, S, D] -> [B, H, T, D].

    mask [B or 1, 1, T, S], True where a token may look; None: causal.
    """
    B, H, T, D = query.shape  # noqa: N806
    G, S = key.shape[1:3]  # noqa: N806
    trains_on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad
    if not trains_on_cpu or T * S > FORMULA_UP_TO:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None and T > 1, dropout_p=dropout, enable_gqa=G != H
        )
    # The same in single steps: in bf16 the fused kernel's backward pass takes four times as long on a CPU.
    seen = torch.ones(T, S, dtype=torch.bool).tril(S - T) if mask is None else mask
    bias = torch.zeros_like(seen, dtype=query.dtype).masked_fill_(~seen, -torch.inf).expand(B, H, T, S)
    if G != H:
        key, value = (x.repeat_interleave(H // G, dim=1) for x in (key, value))
    query, key, value = (x.reshape(B * H, -1, D) for x in (query, key, value))
    scores = torch.baddbmm(bias.reshape(B * H, T, S), query, key.mT, alpha=D**-0.5)
    weights = F.dropout(scores.softmax(dim=-1), dropout)
    return (weights @ value).view(B, H, T, D)


def attention_mask(
    tokens: int, past: int, starts: Tensor | None, documents: Tensor | None, device: torch.device
) -> Tensor | None:
    """Which of past + tokens positions each of the last `tokens` may look at: [B, 1, T, S], or None for plain causal.

    Args:
        starts: [B], first real position of a sequence that is padded on the left.
        documents: [B, T], attention stays among equal numbers.
    """
    if documents is None and starts is None and (past == 0 or tokens == 1):
        return None
    rows = torch.arange(past, past + tokens, device=device)
    columns = torch.arange(past + tokens, device=device)
    mask = (columns[None, :] <= rows[:, None])[None, None]  # [1, 1, T, S]
    if documents is not None:
        mask = mask & (documents[:, None, :, None] == documents[:, None, None, :])
    if starts is not None:
        seen = columns[None, :] >= starts[:, None]  # [B, S]
        itself = columns[None, :] == rows[:, None]  # padding sees itself, so that its softmax is not 0/0
        mask = mask & seen[:, None, None, :] | itself[None, None]
    return mask
