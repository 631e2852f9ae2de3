"""A fast decoder for single tokens on a CPU.

A small model spends most of a step in Python and in the overhead of operators, a large one in reading its weights from
memory. CpuDecoder therefore fuses the weights of a block into a few matrices, and stores them in the layout that the
kernel reads, or in bf16. model/transformer.py stays the reference: it reads the prompts, and does the steps of every
model that supported_models.py does not cover.

The faster layouts need two operators of oneDNN that torch does not document (torch.compile uses them for constant
weights). A build of torch without them gets the documented operators, and the same numbers up to rounding.

Legend: B sequences, S tokens attended to, C width, H heads, G key/value heads, D size of a head, V vocabulary; I inputs
and O outputs of a linear layer.
"""

import math
import time
from collections.abc import Callable
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptexp.generation.supported_models import find_unsupported
from gptexp.model.attention import KVCache
from gptexp.model.feed_forward import FeedForward
from gptexp.model.masks import AttentionMask, SequenceLayout, layer_masks
from gptexp.model.norm import RMSNorm
from gptexp.model.positions import Rotary, sinusoidal
from gptexp.model.transformer import Block, Transformer

# x [B, I], residual or bias y [B, O] or [O] or None -> x W^T + y [B, O], all in fp32
LinearFn = Callable[[Tensor, Tensor | None], Tensor]
Pack = Callable[[Tensor], LinearFn]
# With fewer weights, the longer call of oneDNN costs more than its layout saves.
ONEDNN_MIN_WEIGHTS = 200_000


class CpuDecoder:
    """Fused copies of a decoder's weights, which do not follow when the model is trained further.

    Args:
        weights: "float32", or "bfloat16" (half the bytes). Everything but the products with weights is in fp32.
        rows: batch size that the layout of the weights is chosen for; any other works too.

    Raises:
        ValueError: the decoder does not compute this model.
    """

    @torch.no_grad()
    def __init__(self, model: Transformer, weights: str = "float32", rows: int = 1) -> None:
        if reason := find_unsupported(model):
            raise ValueError(
                f"weights={weights}: not for a model with {reason}; use weights=float32"
            )
        self.model, self.weights = model, weights

        def pack(weight: Tensor) -> LinearFn:
            return FORMATS[weights](weight, rows)

        self.blocks = [_DecoderBlock(cast(Block, block), pack) for block in model.blocks]
        self.norm, scale = _split_norm(model.norm)
        self.head = _FusedLinear(pack, model.head, scale=scale)
        self.embedding_scale = 1.0
        self.positions = None if model.positions is None else model.positions.weight  # [context, C]
        if model.config.position == "sinusoidal":
            self.embedding_scale = model.config.d_model**0.5
            self.positions = sinusoidal(
                torch.arange(model.config.context)[None], model.config.d_model
            )[0]
        self.cos_sin: tuple[Tensor, ...] = (torch.empty(0),)  # [S, D] each, computed when needed
        D = model.config.head_dim  # noqa: N806
        self.identity = torch.eye(D)
        # x @ rotate_half = (-right half of x, left half of x)
        self.rotate_half = torch.cat((self.identity[D // 2 :], -self.identity[: D // 2]))

    @classmethod
    def for_model(cls, model: Transformer, weights: str, rows: int) -> Self | None:
        """Return a decoder in this format ("auto": the fastest), or None if the model itself has to do the steps.

        Raises:
            ValueError: the format is bfloat16, and the decoder does not compute this model.
        """
        if weights in ("float32", "auto") and find_unsupported(model):
            return None
        if weights != "auto":
            return cls(model, weights, rows)
        decoders = [cls(model, name, rows) for name in FORMATS]
        return min(decoders, key=lambda decoder: decoder._seconds_per_step(rows))

    @torch.inference_mode()
    def step(
        self,
        tokens: Tensor,
        cache: KVCache,
        layout: SequenceLayout = SequenceLayout(),
        memory_mask: AttentionMask | None = None,
    ) -> Tensor:
        """Append a token to each sequence, [B], and return the logits of the next one, [B, V]. The cache grows by one.

        Args:
            layout: left padding of the sequences.
            memory_mask: mask of an encoder's memory, whose keys and values are in the cache.
        """
        end = cache.length + 1
        padding = layout.left_padding
        positions = cache.length if padding is None else cache.length - padding  # one, or [B]
        x = F.embedding(tokens, self.model.embedding.weight)  # [B, C]
        if self.positions is not None:
            x = torch.add(self.positions[positions], x, alpha=self.embedding_scale)
        rotation = None
        if self.model.rotary is not None:
            rotation = self._rotation(self.model.rotary, positions, cache.keys.shape[3])
        masks = layer_masks(self.model.config, layout, 1, cache.length)
        keys, values = (x.narrow(3, 0, end).unbind() for x in (cache.keys, cache.values))
        for layer, block in enumerate(self.blocks):
            x = block.attend(x, rotation, keys[layer], values[layer], masks[layer])
            if block.cross is not None:
                x = block.attend_to_memory(x, *cache.cross[layer], memory_mask or AttentionMask())
            x = block.feed_forward(x)
        cache.length = end
        return self.head(self.norm(x))

    def _rotation(self, rotary: Rotary, positions: int | Tensor, longest: int) -> Tensor:
        """Return rotary positions as a matrix, [D, D] or [B, D, D]: one product rotates queries and keys."""
        if len(self.cos_sin[0]) < longest:
            self.cos_sin = tuple(table[0, 0] for table in rotary(torch.arange(longest)[None]))
        cos, sin = (table[positions].unsqueeze(-2) for table in self.cos_sin)
        return (self.identity * cos).add_(self.rotate_half * sin)

    def _seconds_per_step(self, rows: int) -> float:
        """Return the time of the fastest of five steps."""
        tokens, times = torch.zeros(rows, dtype=torch.long), []
        for _ in range(5):
            cache = self.model.new_cache(rows, 1)
            cache.cross = dict.fromkeys(range(len(self.blocks)), (cache.keys[0], cache.values[0]))
            started = time.perf_counter()
            self.step(tokens, cache)
            times.append(time.perf_counter() - started)
        return min(times)


class _DecoderBlock:
    """One block, applied to one token of each sequence, x [B, C]."""

    def __init__(self, block: Block, pack: Pack) -> None:
        attention, feed_forward = block.attention, block.feed_forward
        self.heads, self.kv_heads = attention.heads, attention.kv_heads
        self.head_dim = attention.head_dim
        self.norm, scale = _split_norm(block.attention_norm)
        self.query_key_value = _FusedLinear(
            pack, attention.query, attention.key, attention.value, scale=scale
        )
        self.query_key_norm = None
        if attention.query_norm is not None and attention.key_norm is not None:
            self.query_key_norm, query_scale = _split_norm(attention.query_norm)
            _, key_scale = _split_norm(attention.key_norm)
            scales = [query_scale] * self.heads + [key_scale] * self.kv_heads
            self.query_key_scale = torch.stack(cast(list[Tensor], scales))  # [H + G, D]
        self.output = _FusedLinear(pack, attention.output)
        self.cross = block.cross_attention
        if self.cross is not None:
            self.cross_norm, scale = _split_norm(block.cross_norm)
            self.cross_query = _FusedLinear(pack, self.cross.query, scale=scale)
            self.cross_output = _FusedLinear(pack, self.cross.output)
        assert isinstance(feed_forward, FeedForward)
        self.kind = feed_forward.kind
        self.feed_forward_norm, scale = _split_norm(block.feed_forward_norm)
        up = (
            [feed_forward.up] if feed_forward.gate is None else [feed_forward.gate, feed_forward.up]
        )
        self.up = _FusedLinear(pack, *up, scale=scale)
        self.down = _FusedLinear(pack, feed_forward.down)

    def attend(
        self, x: Tensor, rotation: Tensor | None, keys: Tensor, values: Tensor, mask: AttentionMask
    ) -> Tensor:
        """Apply self-attention: keys and values are [B, G, S, D] of all tokens; those of the last are written here."""
        H, G, D = self.heads, self.kv_heads, self.head_dim  # noqa: N806
        fused = self.query_key_value(self.norm(x)).view(-1, H + 2 * G, D)
        query_key, value = fused.split((H + G, G), dim=1)
        if self.query_key_norm is not None:
            query_key = self.query_key_norm(query_key) * self.query_key_scale
        if rotation is not None:
            query_key = query_key @ rotation
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
            case "relu2":
                return self.down(F.relu(hidden).square_(), x)
        raise AssertionError(self.kind)


class _FusedLinear:
    """Linear layers with the same input as one matrix, with the weight of the preceding RMSNorm folded in."""

    def __init__(self, pack: Pack, *layers: nn.Linear, scale: Tensor | None = None) -> None:
        weights: list[Tensor] = [layer.weight.detach() for layer in layers]
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        self.linear = pack(weight if scale is None else weight * scale)
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self.bias = torch.cat(biases) if biases else None

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if residual is None:
            return self.linear(x, self.bias)
        return self.linear(x, residual if self.bias is None else residual + self.bias)


def _split_norm(module: nn.Module | None) -> tuple[Callable[[Tensor], Tensor], Tensor | None]:
    """Return a norm without its weight, and the weight to fold into the next matrix; torch's LayerNorm stays as it is.

    torch has no fused RMSNorm for CPUs; x / sqrt(|x|^2 + size eps) * (weight sqrt(size)) is the same and faster.
    """
    if not isinstance(module, RMSNorm):
        assert isinstance(module, nn.LayerNorm)
        return module.forward, None
    size = module.weight.numel()
    epsilon = torch.tensor(math.sqrt(size * (module.eps or 0)))

    def normalise(x: Tensor) -> Tensor:
        return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(epsilon)

    return normalise, module.weight * size**0.5


def _single_query_attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: AttentionMask
) -> Tensor:
    """Attend with query [B, H, D] -> [B, H D]; heads that share keys are several queries of one head."""
    B, H, D = query.shape  # noqa: N806
    query = query.view(B, keys.shape[1], -1, D)
    return F.scaled_dot_product_attention(query, keys, values, mask.allowed).reshape(B, H * D)


def pack_float32(weight: Tensor, rows: int) -> LinearFn:
    """Store the weight [O, I] in the layout that is fastest to read for this batch size and number of threads."""
    is_shared = rows > 1 or torch.get_num_threads() > 1
    if is_shared and weight.numel() >= ONEDNN_MIN_WEIGHTS and _has_onednn():
        return _add_after(_onednn(weight))
    transposed = weight.t()
    if rows > 1 or weight.shape[1] <= weight.shape[0]:
        transposed = transposed.contiguous()
    return lambda x, y: torch.mm(x, transposed) if y is None else torch.addmm(y, x, transposed)


def pack_bfloat16(weight: Tensor, rows: int) -> LinearFn:  # noqa: ARG001
    """Store the weight in bf16, half the bytes, and multiply in bf16."""
    half = weight.bfloat16()
    if _has_onednn() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        linear = _onednn(half)
        return _add_after(lambda x: linear(x.bfloat16()).float())
    return _add_after(lambda x: F.linear(x.bfloat16(), half).float())


def _add_after(linear: Callable[[Tensor], Tensor]) -> LinearFn:
    return lambda x, y: linear(x) if y is None else linear(x).add_(y)


def _has_onednn() -> bool:
    operators = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in operators
    )


def _onednn(weight: Tensor) -> Callable[[Tensor], Tensor]:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


FORMATS = {"float32": pack_float32, "bfloat16": pack_bfloat16}
