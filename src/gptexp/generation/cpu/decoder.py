"""One token a step, fast on a CPU: the numbers of transformer.py from weights that are fused and packed once.

A small model loses most of its time to Python and to the calls of single operations, a large one to the way of its
weights from memory; both are less here. transformer.py stays the reference, and reads the prompts.

Legend: B sequences, S tokens attended to, C width, H heads, G key/value heads, D size of a head, V vocabulary.
"""

import math
import time
from collections.abc import Callable
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.generation.cpu import matmul
from gptexp.model.attention import KVCache
from gptexp.model.feed_forward import FeedForward
from gptexp.model.masks import AttentionMask, SequenceLayout, layer_masks
from gptexp.model.norm import RMSNorm
from gptexp.model.positions import sinusoidal
from gptexp.model.transformer import Block, Transformer

FORMATS = {"float32": matmul.float32, "bfloat16": matmul.bfloat16, "int8": matmul.int8}
Pack = Callable[[Tensor], matmul.LinearFn]


class CpuDecoder:
    """Copies of a decoder's weights, in 4 (float32), 2 (bfloat16) or 1 byte each (int8) beside those of the model.

    They do not follow when the model is trained further. Everything but the products with weights is in fp32.

    Args:
        rows: sequences that a step is for; it works with any other number too.

    Raises:
        ValueError: there is no such format, or not for this model.
    """

    @torch.no_grad()
    def __init__(self, model: Transformer, weights: str = "float32", rows: int = 1) -> None:
        if weights not in FORMATS:
            raise ValueError(
                f"weights={weights}: not a format. Allowed: {', '.join(FORMATS)}, auto"
            )
        if not _is_supported(model):
            raise ValueError(
                f"weights={weights}: packs plain layers on a CPU; elsewhere only float32 is known"
            )
        self.model, self.weights = model, weights

        def pack(weight: Tensor) -> matmul.LinearFn:
            return FORMATS[weights](weight, rows)

        self.layers = [_Layer(cast(Block, block), pack) for block in model.blocks]
        self.norm, left = _norm(model.norm)
        self.head = _Linear(pack, model.head, left=left)
        self.scale, self.table = 1.0, None if model.positions is None else model.positions.weight
        if model.config.position == "sinusoidal":
            self.scale = model.config.d_model**0.5
            self.table = sinusoidal(torch.arange(model.config.context)[None], model.config.d_model)[
                0
            ]
        self.angles: tuple[Tensor, ...] = (
            torch.empty(0),
        )  # cosines and sines [longest, D], when that is known
        D = model.config.head_dim  # noqa: N806
        self.same = torch.eye(D)
        self.turned = torch.cat(
            (self.same[D // 2 :], -self.same[: D // 2])
        )  # x @ turned = (-right, left)

    @classmethod
    def for_model(cls, model: Transformer, weights: str, rows: int) -> Self | None:
        """Return a decoder in this format ("auto": the fastest), or None where only the model itself can do the steps.

        Raises:
            ValueError: there is no such format, or not for this model.
        """
        if weights in ("float32", "auto") and not _is_supported(model):
            return None
        if weights != "auto":
            return cls(model, weights, rows)
        return min(
            (cls(model, name, rows) for name in FORMATS), key=lambda fast: fast._seconds(rows)
        )

    @torch.inference_mode()
    def step(
        self,
        tokens: Tensor,
        cache: KVCache,
        layout: SequenceLayout = SequenceLayout(),
        memory_mask: AttentionMask | None = None,
    ) -> Tensor:
        """Logits [B, V] of what follows one token more of each sequence, [B]; the cache grows by it.

        Args:
            layout: padding of the sequences on the left.
            memory_mask: of an encoder's memory, whose keys and values the cache has.
        """
        end = cache.length + 1
        padding = layout.left_padding
        places = cache.length if padding is None else cache.length - padding  # one, or [B]
        x = F.embedding(tokens, self.model.embedding.weight)  # [B, C]
        if self.table is not None:
            x = torch.add(self.table[places], x, alpha=self.scale)
        turn = self._turn(places, cache.keys.shape[3]) if self.model.rotary is not None else None
        masks = layer_masks(self.model.config, layout, 1, cache.length)
        keys, values = (
            side.narrow(3, 0, end).unbind() for side in (cache.keys, cache.values)
        )  # [B, G, S, D] each
        for number, layer in enumerate(self.layers):
            x = layer.attend(x, turn, keys[number], values[number], masks[number])
            if layer.cross is not None:
                x = layer.attend_to_memory(x, *cache.cross[number], memory_mask or AttentionMask())
            x = layer.feed_forward(x)
        cache.length = end
        return self.head(self.norm(x))

    def _turn(self, places: int | Tensor, longest: int) -> Tensor:
        """Rotary positions as a matrix, [D, D] or [B, D, D], so that one product turns queries and keys."""
        assert self.model.rotary is not None
        if len(self.angles[0]) < longest:
            self.angles = tuple(
                table[0, 0] for table in self.model.rotary(torch.arange(longest)[None])
            )
        cos, sin = (table[places].unsqueeze(-2) for table in self.angles)
        return (self.same * cos).add_(self.turned * sin)

    def _seconds(self, rows: int) -> float:
        """The shortest of a few steps."""
        tokens, taken = torch.zeros(rows, dtype=torch.long), []
        for _ in range(5):
            cache = self.model.new_cache(rows, 1)
            cache.cross = dict.fromkeys(range(len(self.layers)), (cache.keys[0], cache.values[0]))
            started = time.perf_counter()
            self.step(tokens, cache)
            taken.append(time.perf_counter() - started)
        return min(taken)


class _Layer:
    """What one block does with one token of each sequence, x [B, C]."""

    def __init__(self, block: Block, pack: Pack) -> None:
        attention, feed_forward = block.attention, block.feed_forward
        self.heads, self.kv_heads, self.head_dim = (
            attention.heads,
            attention.kv_heads,
            attention.head_dim,
        )
        self.norm, left = _norm(block.attention_norm)
        self.query_key_value = _Linear(
            pack, attention.query, attention.key, attention.value, left=left
        )
        self.query_key_norm = None
        if attention.query_norm is not None and attention.key_norm is not None:
            self.query_key_norm, of_query = _norm(attention.query_norm)
            _, of_key = _norm(attention.key_norm)
            lefts = [of_query] * self.heads + [of_key] * self.kv_heads
            self.left = torch.stack(cast(list[Tensor], lefts))  # [H + G, D]
        self.output = _Linear(pack, attention.output)
        self.cross = block.cross_attention
        if self.cross is not None:
            self.cross_norm, left = _norm(block.cross_norm)
            self.cross_query = _Linear(pack, self.cross.query, left=left)
            self.cross_output = _Linear(pack, self.cross.output)
        assert isinstance(feed_forward, FeedForward)
        self.kind = feed_forward.kind
        self.feed_forward_norm, left = _norm(block.feed_forward_norm)
        up = (
            [feed_forward.up] if feed_forward.gate is None else [feed_forward.gate, feed_forward.up]
        )
        self.up, self.down = _Linear(pack, *up, left=left), _Linear(pack, feed_forward.down)

    def attend(
        self, x: Tensor, turn: Tensor | None, keys: Tensor, values: Tensor, mask: AttentionMask
    ) -> Tensor:
        """keys and values [B, G, S, D] of all tokens up to this one, whose place is the last and still empty."""
        H, G, D = self.heads, self.kv_heads, self.head_dim  # noqa: N806
        query_key, value = (
            self.query_key_value(self.norm(x)).view(-1, H + 2 * G, D).split((H + G, G), dim=1)
        )
        if self.query_key_norm is not None:
            query_key = self.query_key_norm(query_key) * self.left
        if turn is not None:
            query_key = query_key @ turn
        query, key = query_key.split((H, G), dim=1)
        keys.select(2, -1).copy_(key)
        values.select(2, -1).copy_(value)
        return self.output(_single_query_attention(query, keys, values, mask), x)

    def attend_to_memory(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: AttentionMask
    ) -> Tensor:
        assert self.cross is not None
        query = self.cross_query(self.cross_norm(x)).view(-1, self.heads, self.head_dim)
        query = query if self.cross.query_norm is None else self.cross.query_norm(query)
        return self.cross_output(_single_query_attention(query, keys, values, mask), x)

    def feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.up(self.feed_forward_norm(x))
        match self.kind:
            case "swiglu":
                gate, up = hidden.chunk(2, dim=-1)
                return self.down(F.silu(gate).mul_(up), x)
            case "gelu":
                return self.down(F.gelu(hidden, approximate="tanh"), x)
            case _:
                return self.down(F.relu(hidden).square_(), x)


class _Linear:
    """Linear layers that read the same as one, times what the norm before them has left to do."""

    def __init__(self, pack: Pack, *layers: nn.Linear, left: Tensor | None = None) -> None:
        weights: list[Tensor] = [layer.weight.detach() for layer in layers]
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        self.product = pack(weight if left is None else weight * left)
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self.bias = torch.cat(biases) if biases else None

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if residual is None:
            return self.product(x, self.bias)
        return self.product(x, residual if self.bias is None else residual + self.bias)


def _norm(module: nn.Module | None) -> tuple[Callable[[Tensor], Tensor], Tensor | None]:
    """The norm, and the factor that it leaves to the weights after it: torch has no fused RMSNorm for CPUs."""
    if not isinstance(module, RMSNorm):
        assert isinstance(module, nn.LayerNorm)
        return module.forward, None
    size = module.weight.numel()
    least = torch.tensor(math.sqrt(size * (module.eps or 0)))
    return (
        lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(least),
        module.weight * size**0.5,
    )


def _single_query_attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: AttentionMask
) -> Tensor:
    """Attention of query [B, H, D] -> [B, H D]; heads that share keys are taken as several queries of one head."""
    B, H, D = query.shape  # noqa: N806
    query = query.view(B, keys.shape[1], -1, D)
    return F.scaled_dot_product_attention(query, keys, values, mask.allowed).reshape(B, H * D)


def _is_supported(model: Transformer) -> bool:
    """All layers are in fp32 on a CPU, none is adapted or sharded, and a step is a token."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    weights = [
        layer.weight
        for layer in layers
        if type(layer) is nn.Linear and type(layer.weight) is nn.Parameter
    ]
    if model.config.predicts_features or model.config.experts:
        return False
    return len(weights) == len(layers) and all(
        (w.device.type, w.dtype) == ("cpu", torch.float32) for w in weights
    )
