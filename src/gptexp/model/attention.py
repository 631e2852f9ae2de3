"""Multi-head attention, softmax(Q K^T / sqrt(D)) V (Vaswani et al. 2017, arXiv 1706.03762), and its KV cache.

Legend: B sequences, T tokens, S tokens attended to, C width, H heads, G key/value heads, D size of a head.
"""

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.model.config import TransformerConfig
from gptexp.model.context_parallel import ChunkedAttention
from gptexp.model.masks import AttentionMask
from gptexp.model.norm import RMSNorm
from gptexp.model.positions import rotate

# Largest T x S that `attend` computes in single operations where it trains in bf16 on a CPU.
EAGER_ATTENTION_MAX_SCORES = 512 * 512


@dataclass
class KVCache:
    """Keys and values of every layer, allocated once for the longest sequence."""

    keys: Tensor  # [layers, B, G, S, D]
    values: Tensor  # [layers, B, G, S, D]
    length: int = 0  # tokens in the cache
    # Keys and values of the encoder's memory, by layer.
    cross: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def empty(cls, config: TransformerConfig, batch: int, longest: int, like: Tensor) -> Self:
        shape = (config.layers, batch, config.kv_heads, longest, config.head_dim)
        return cls(like.new_zeros(shape), like.new_zeros(shape))

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values [B, G, T, D] of new tokens, and return those of all tokens [B, G, S, D]."""
        end = self.length + key.shape[2]
        self.keys[layer, :, :, self.length : end] = key
        self.values[layer, :, :, self.length : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def select(self, rows: Tensor) -> None:
        """Keep the sequences rows [N], in this order; beam search repeats some of them."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.cross = {layer: (key[rows], value[rows]) for layer, (key, value) in self.cross.items()}


@dataclass(frozen=True, eq=False)
class EncoderMemory:
    """Hidden states of an encoder, which the decoder attends to."""

    states: Tensor  # [B, S, C]
    mask: AttentionMask

    def select(self, rows: Tensor) -> Self:
        """Return the memory of the sequences rows [N]."""
        return replace(self, states=self.states[rows], mask=self.mask.select(rows))


@dataclass(frozen=True, eq=False)
class AttentionContext:
    """The inputs of a layer's attention besides the hidden states."""

    mask: AttentionMask
    rotary: tuple[Tensor, Tensor] | None = None  # cosines and sines of the tokens' positions
    cache: KVCache | None = None
    memory: EncoderMemory | None = None
    chunked: ChunkedAttention | None = None  # other ranks have the rest of the sequences


class Attention(nn.Module):
    """Multi-head attention with grouped key/value heads (arXiv 2305.13245; one group is multi-query, 1911.02150).

    As an option, queries and keys have RMSNorm (arXiv 2010.04245).
    """

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

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        """Compute self-attention: x [B, T, C] -> [B, T, C]."""
        query, (key, value) = self._queries(x), self._keys_and_values(x)
        if context.rotary is not None:
            query, key = rotate(query, *context.rotary), rotate(key, *context.rotary)
        if context.cache is not None:
            key, value = context.cache.update(self.layer, key, value)
        if context.chunked is not None:
            return self._attend_chunks(query, key, value, context.chunked)
        return self._attend(query, key, value, context.mask)

    def cross(self, x: Tensor, context: AttentionContext) -> Tensor:
        """Compute cross-attention to the encoder's memory [B, S, C]: x [B, T, C] -> [B, T, C]."""
        cache, memory = context.cache, context.memory
        assert memory is not None
        if cache is not None and self.layer in cache.cross:
            key, value = cache.cross[self.layer]
        else:
            key, value = self._keys_and_values(memory.states)
            if cache is not None:
                cache.cross[self.layer] = key, value
        return self._attend(self._queries(x), key, value, memory.mask)

    def weights(self, x: Tensor, context: AttentionContext) -> Tensor:
        """Compute the weights [B, H, T, T] of self-attention, softmax(Q K^T / sqrt(D)), for people to look at."""
        query, key = self._queries(x), self._keys_and_values(x)[0]
        if context.rotary is not None:
            query, key = rotate(query, *context.rotary), rotate(key, *context.rotary)
        key = key.repeat_interleave(self.heads // self.kv_heads, dim=1)
        scores = query @ key.mT * self.head_dim**-0.5
        allowed = context.mask.allowed
        if allowed is None and context.mask.is_causal:
            allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).tril()
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        return scores.softmax(dim=-1)

    def _queries(self, x: Tensor) -> Tensor:
        query = self.query(x).view(*x.shape[:2], -1, self.head_dim)
        query = query if self.query_norm is None else self.query_norm(query)
        return query.transpose(1, 2)  # [B, H, T, D]

    def _keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        key = self.key(x).view(*x.shape[:2], -1, self.head_dim)
        value = self.value(x).view(*x.shape[:2], -1, self.head_dim)
        key = key if self.key_norm is None else self.key_norm(key)
        return key.transpose(1, 2), value.transpose(1, 2)  # [B, G, T, D] each

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask) -> Tensor:
        key, value = key.to(query.dtype), value.to(query.dtype)
        dropout = self.dropout if self.training else 0.0
        y = attend(query, key, value, mask, dropout)  # [B, H, T, D]
        return self.output(y.transpose(1, 2).flatten(2))

    def _attend_chunks(
        self, query: Tensor, key: Tensor, value: Tensor, chunked: ChunkedAttention
    ) -> Tensor:
        """Attend from two chunks of each sequence, [B, H, 2 L, D], to the keys of all ranks before them."""
        both = torch.cat((key, value), dim=1).to(query.dtype)
        key, value = chunked.group.gather(both).chunk(2, dim=1)
        dropout, length = self.dropout if self.training else 0.0, query.shape[2] // 2
        parts = []
        for part, chunk, mask in zip(
            query.chunk(2, dim=2), chunked.group.chunks, chunked.masks, strict=True
        ):
            end = (chunk + 1) * length
            parts.append(attend(part, key[:, :, :end], value[:, :, :end], mask, dropout))
        return self.output(torch.cat(parts, dim=2).transpose(1, 2).flatten(2))


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, dropout: float = 0.0
) -> Tensor:
    """Compute softmax(Q K^T / sqrt(D)) V: query [B, H, T, D], key and value [B, G, S, D] -> [B, H, T, D]."""
    B, H, T, D = query.shape  # noqa: N806
    G, S = key.shape[1:3]  # noqa: N806
    if mask.blocks is not None:
        from torch.nn.attention.flex_attention import flex_attention

        assert not dropout, "FlexAttention has no dropout"
        return flex_attention(query, key, value, block_mask=mask.blocks, enable_gqa=G != H)
    allowed, is_causal = mask.allowed, mask.allowed is None and mask.is_causal
    trains_in_bf16_on_cpu = (
        query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad
    )
    if not trains_in_bf16_on_cpu or T * S > EAGER_ATTENTION_MAX_SCORES:
        return F.scaled_dot_product_attention(
            query, key, value, allowed, dropout, is_causal=is_causal, enable_gqa=G != H
        )
    # The same in single operations: the fused kernel's backward pass in bf16 takes four times as long on a CPU.
    if allowed is None:
        allowed = torch.ones(T, S, dtype=torch.bool)
        allowed = allowed.tril(S - T) if is_causal else allowed
    bias = torch.zeros_like(allowed, dtype=query.dtype).masked_fill_(~allowed, -torch.inf)
    bias = bias.expand(B, H, T, S)
    if G != H:
        key, value = (x.repeat_interleave(H // G, dim=1) for x in (key, value))
    query, key, value = (x.reshape(B * H, -1, D) for x in (query, key, value))
    scores = torch.baddbmm(bias.reshape(B * H, T, S), query, key.mT, alpha=D**-0.5)
    weights = F.dropout(scores.softmax(dim=-1), dropout)
    return (weights @ value).view(B, H, T, D)
