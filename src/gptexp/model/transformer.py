"""A decoder-only Transformer (Radford et al. 2018, 2019) with the switches that GPT-2 and Qwen3 differ in.

Legend: B sequences, T tokens, C width, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gptexp.model.attention import Attention, KeyValueCache, attention_mask
from gptexp.model.norm import RMSNorm
from gptexp.model.positions import Rotary


@dataclass(frozen=True)
class TransformerConfig:
    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    hidden: int
    context: int
    dropout: float = 0.0
    position: str = "rotary"  # learned | rotary
    norm: str = "rms"  # layer | rms
    feed_forward: str = "swiglu"  # gelu | swiglu | relu2
    qk_norm: bool = True
    bias: bool = False
    tied: bool = True
    rope_theta: float = 10000.0
    initialisation: str = "zero"  # gpt2 | zero


class FeedForward(nn.Module):
    """Two layers with GELU or squared ReLU (arXiv 2109.08668), or the gated SwiGLU (arXiv 2002.05202)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.kind = config.feed_forward
        self.gate = nn.Linear(config.width, config.hidden, config.bias) if self.kind == "swiglu" else None
        self.up = nn.Linear(config.width, config.hidden, config.bias)
        self.down = nn.Linear(config.hidden, config.width, config.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is not None:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        if self.kind == "gelu":
            return self.down(F.gelu(self.up(x), approximate="tanh"))
        return self.down(F.relu(self.up(x)).square())


class Block(nn.Module):
    """Pre-norm residual block: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = _norm(config)
        self.attention = Attention(
            config.width, config.heads, config.kv_heads, config.bias, config.qk_norm, config.dropout, layer
        )
        self.feed_forward_norm = _norm(config)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KeyValueCache | None,
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), rotary, mask, cache))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class Transformer(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.recomputes = False  # activations, in the backward pass, to save memory
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.context, config.width) if config.position == "learned" else None
        self.rotary = Rotary(config.width // config.heads, config.rope_theta) if config.position == "rotary" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = _norm(config)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tied:  # Press and Wolf 2017, arXiv 1608.05859
            self.head.weight = self.embedding.weight
        self._initialise()

    def forward(
        self,
        tokens: Tensor,
        documents: Tensor | None = None,
        cache: KeyValueCache | None = None,
        starts: Tensor | None = None,
    ) -> Tensor:
        """Hidden states after the last norm, [B, T, C].

        Args:
            tokens: [B, T]; with a cache, the tokens that follow those in it.
            documents: [B, T], attention stays among equal numbers.
            starts: [B], first real position of sequences that are padded on the left.

        Raises:
            ValueError: more tokens than the context holds.
        """
        T = tokens.shape[1]  # noqa: N806
        past = cache.length if cache is not None else 0
        if past + T > self.config.context:
            raise ValueError(f"{past + T} tokens do not fit into a context of {self.config.context}")
        positions = torch.arange(past, past + T, device=tokens.device)[None]  # [1, T]
        if starts is not None:
            positions = (positions - starts[:, None]).clamp(min=0)  # [B, T]
        x = self.embedding(tokens)  # [B, T, C]
        if self.positions is not None:
            x = x + self.positions(positions)
        x = self.dropout(x)
        rotary = self.rotary(positions) if self.rotary is not None else None
        mask = attention_mask(T, past, starts, documents, tokens.device)
        for block in self.blocks:
            if self.recomputes and self.training:  # Chen et al. 2016, arXiv 1604.06174
                x = checkpoint(block, x, rotary, mask, cache, use_reentrant=False)
            else:
                x = block(x, rotary, mask, cache)
        if cache is not None:
            cache.length += T
        return self.norm(x)

    def loss(self, tokens: Tensor, targets: Tensor, documents: Tensor | None = None) -> Tensor:
        """Cross-entropy in nats, summed over the targets that are not negative; 0 where there is none.

        The head is applied only where there is a target: a summary's loss does not pay for its document.
        """
        hidden = self.forward(tokens, documents)  # not self(...): under FSDP this method is the entry, not forward
        valid = targets >= 0
        logits = self.head(hidden[valid])  # [targets, V]
        return F.cross_entropy(logits.float(), targets[valid], reduction="sum")

    def new_cache(self, batch: int, longest: int) -> KeyValueCache:
        config = self.config
        head_size = config.width // config.heads
        return KeyValueCache.empty(config.layers, batch, config.kv_heads, longest, head_size, self.embedding.weight)

    @torch.no_grad()
    def _initialise(self) -> None:
        """gpt2: as Radford et al. 2019; zero: the outputs of a block start at zero, which suits Muon.

        Source of the second: Jordan et al. 2024, modded-nanogpt.
        """
        gpt2 = self.config.initialisation == "gpt2"
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                last = name.endswith(("attention.output", "feed_forward.down"))
                std = 0.02 / math.sqrt(2 * self.config.layers) if last else 0.02
                if not gpt2:
                    std = 0.0 if last else 0.5 / math.sqrt(module.in_features)
                nn.init.normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=0.02 if self.config.tied else 1.0)
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=0.02)
        if not self.config.tied:
            nn.init.zeros_(self.head.weight)


def _norm(config: TransformerConfig) -> nn.Module:
    if config.norm == "rms":
        return RMSNorm(config.width)
    return nn.LayerNorm(config.width, eps=1e-5)
