"""Multi-head attention, softmax(Q K^T / sqrt(D)) V (Vaswani et al. 2017, arXiv 1706.03762), its masks and its cache.

Legend: B sequences, T tokens, S tokens attended to, C width, H heads, G key/value heads, D size of a head.
"""

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.model.config import TransformerConfig
from gptexp.model.norm import RMSNorm
from gptexp.model.positions import rotate

EAGER_ATTENTION_MAX_SCORES = 512 * 512  # T x S


@dataclass
class KVCache:
    """Keys and values of every layer, allocated once for the longest sequence."""

    keys: Tensor  # [layers, B, G, S, D]
    values: Tensor  # [layers, B, G, S, D]
    length: int = 0  # tokens seen so far
    cross: dict[int, tuple[Tensor, Tensor]] = field(
        default_factory=dict
    )  # layer -> keys and values of the memory

    @classmethod
    def empty(cls, config: TransformerConfig, batch: int, longest: int, like: Tensor) -> Self:
        shape = (config.layers, batch, config.kv_heads, longest, config.head_dim)
        return cls(like.new_zeros(shape), like.new_zeros(shape))

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens' [B, G, T, D] and give back all so far, [B, G, S, D]."""
        end = self.length + key.shape[2]
        self.keys[layer, :, :, self.length : end] = key
        self.values[layer, :, :, self.length : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def select(self, rows: Tensor) -> None:
        """Sequence i goes on from what sequence rows[i] was (beam search)."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.cross = {layer: (key[rows], value[rows]) for layer, (key, value) in self.cross.items()}


@dataclass
class AttentionContext:
    """What the tokens of one pass may look at."""

    mask: Tensor | None = (
        None  # [B or 1, 1, T, S], True where a token may look; None: see is_causal
    )
    is_causal: bool = False  # without a mask: all tokens before it, else simply all
    rotary: tuple[Tensor, Tensor] | None = None  # cosines and sines of the tokens' positions
    cache: KVCache | None = None
    memory: Tensor | None = None  # [B, S, C], what an encoder has made of the source
    memory_mask: Tensor | None = None  # [B, 1, 1, S]


class Attention(nn.Module):
    """Grouped key/value heads (arXiv 2305.13245; one group is multi-query, arXiv 1911.02150) and, as an option,
    RMSNorm on queries and keys (arXiv 2010.04245)."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.layer, self.dropout = layer, config.dropout
        self.query = nn.Linear(config.d_model, self.heads * self.head_dim, config.bias)
        self.key = nn.Linear(config.d_model, self.kv_heads * self.head_dim, config.bias)
        self.value = nn.Linear(config.d_model, self.kv_heads * self.head_dim, config.bias)
        self.output = nn.Linear(self.heads * self.head_dim, config.d_model, config.bias)
        self.query_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else None
        self.key_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else None

    def forward(self, x: Tensor, sight: AttentionContext) -> Tensor:
        """Self-attention: x [B, T, C] -> [B, T, C]."""
        query, (key, value) = self._queries(x), self._keys_and_values(x)
        if sight.rotary is not None:
            query, key = rotate(query, *sight.rotary), rotate(key, *sight.rotary)
        if sight.cache is not None:
            key, value = sight.cache.extend(self.layer, key, value)
        return self._attend(query, key, value, sight.mask, sight.is_causal)

    def cross(self, x: Tensor, sight: AttentionContext) -> Tensor:
        """Cross-attention: x [B, T, C] looks at sight.memory [B, S, C] -> [B, T, C]."""
        cache = sight.cache
        if cache is not None and self.layer in cache.cross:
            key, value = cache.cross[self.layer]
        else:
            assert sight.memory is not None
            key, value = self._keys_and_values(sight.memory)
            if cache is not None:
                cache.cross[self.layer] = key, value
        return self._attend(self._queries(x), key, value, sight.memory_mask, is_causal=False)

    def _queries(self, x: Tensor) -> Tensor:
        query = self.query(x).view(*x.shape[:2], self.heads, self.head_dim)
        return (query if self.query_norm is None else self.query_norm(query)).transpose(
            1, 2
        )  # [B, H, T, D]

    def _keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        key = self.key(x).view(*x.shape[:2], self.kv_heads, self.head_dim)
        value = self.value(x).view(*x.shape[:2], self.kv_heads, self.head_dim)
        key = key if self.key_norm is None else self.key_norm(key)
        return key.transpose(1, 2), value.transpose(1, 2)  # [B, G, T, D] each

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool
    ) -> Tensor:
        key, value = key.to(query.dtype), value.to(query.dtype)
        y = attend(
            query, key, value, mask, is_causal, self.dropout if self.training else 0.0
        )  # [B, H, T, D]
        return self.output(y.transpose(1, 2).flatten(2))


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V: query [B, H, T, D], key and value [B, G, S, D] -> [B, H, T, D].

    mask [B or 1, 1, T, S], True where a token may look; without one, is_causal tells.
    """
    B, H, T, D = query.shape  # noqa: N806
    G, S = key.shape[1:3]  # noqa: N806
    trains_on_cpu = (
        query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad
    )
    if not trains_on_cpu or T * S > EAGER_ATTENTION_MAX_SCORES:
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            mask,
            dropout,
            is_causal=is_causal and mask is None and T > 1,
            enable_gqa=G != H,
        )
    # The same in single steps: in bf16 the fused kernel's backward pass takes four times as long on a CPU.
    if mask is None:
        mask = torch.ones(T, S, dtype=torch.bool)
        mask = mask.tril(S - T) if is_causal else mask
    bias = (
        torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf).expand(B, H, T, S)
    )
    if G != H:
        key, value = (x.repeat_interleave(H // G, dim=1) for x in (key, value))
    query, key, value = (x.reshape(B * H, -1, D) for x in (query, key, value))
    scores = torch.baddbmm(bias.reshape(B * H, T, S), query, key.mT, alpha=D**-0.5)
    weights = F.dropout(scores.softmax(dim=-1), dropout)
    return (weights @ value).view(B, H, T, D)


def attention_mask(
    tokens: int,
    past: int,
    device: torch.device,
    *,
    is_causal: bool = True,
    starts: Tensor | None = None,
    documents: Tensor | None = None,
    prefix: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor | None:
    """Which of past + tokens positions each of the last `tokens` may look at: [B or 1, 1, T, S], or None for all
    (before it, where is_causal).

    Args:
        starts: [B], first real position of a sequence that is padded on the left.
        documents: [B, T], attention stays among equal numbers.
        prefix: [B], tokens from the start of a sequence that all may look at.
        lengths: [B], tokens of a sequence that is padded on the right; those of a causal one need no mask.
    """
    if is_causal:
        lengths = None
    if past > 0 and tokens == 1:  # generating: all that is cached is before it
        prefix = None
    if (
        documents is None
        and starts is None
        and prefix is None
        and lengths is None
        and (past == 0 or tokens == 1)
    ):
        return None
    rows = torch.arange(past, past + tokens, device=device)[:, None]  # [T, 1]
    columns = torch.arange(past + tokens, device=device)[None]  # [1, S]
    mask = (columns <= rows if is_causal else columns >= 0)[None, None].expand(1, 1, tokens, -1)
    if prefix is not None:
        mask = mask | (columns < prefix[:, None])[:, None, None]
    if documents is not None:
        mask = mask & (documents[:, None, :, None] == documents[:, None, None, :])
    itself = (columns == rows)[None, None]  # padding sees itself, so that its softmax is not 0/0
    if starts is not None:
        mask = mask & (columns >= starts[:, None])[:, None, None] | itself
    if lengths is not None:
        mask = mask & (columns < lengths[:, None])[:, None, None] | itself
    return mask
