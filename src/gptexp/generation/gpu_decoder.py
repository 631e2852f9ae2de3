"""A fast decoder for single tokens on a GPU.

A step of a small batch spends its time in launching kernels: some three hundred for GPT-2. GpuDecoder keeps all that a
step reads and writes in tensors that stay where they are, the number of tokens in the cache among them. The step is
then recorded once for each batch size and size of the cache, and replayed as one CUDA graph (cuda_graphs.py). Layers
that share their input are one product, where that costs little memory.

model/transformer.py stays the reference: it reads the prompts, and does the steps of every model that
supported_models.py does not cover. On a CPU the same code runs without graphs, which is how it is tested.

Legend: B sequences, S tokens attended to, M tokens of an encoder's memory, C width, H heads, G key/value heads, D size
of a head, V vocabulary.
"""

import weakref
from collections.abc import Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from gptexp.generation.cuda_graphs import CudaGraphs
from gptexp.generation.supported_models import find_unsupported
from gptexp.model.attention import EncoderMemory, KVCache
from gptexp.model.config import TransformerConfig
from gptexp.model.feed_forward import FeedForward, activate
from gptexp.model.masks import (
    Predicate,
    SequenceLayout,
    after_left_padding,
    and_masks,
    causal,
    sliding_window,
)
from gptexp.model.positions import sinusoidal
from gptexp.model.token_loss import align_rows
from gptexp.model.transformer import Block, Transformer

DEVICE = "cuda"  # tests set it to cpu
DTYPES = (torch.float32, torch.bfloat16)
# A GPU is busy from some hundred sequences on, and their cache leaves most of its memory to others.
MAX_ROWS, MAX_CACHE_BYTES = 256, 1 << 33
# Larger layers are not fused: a copy of their weights costs more memory than it saves time.
MAX_FUSED_WEIGHTS = 1 << 24
# cuDNN's attention takes up to two seconds to plan a shape that it has not seen; FlashAttention takes no mask.
ATTENTION_KERNELS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def is_on_gpu(model: Transformer) -> bool:
    return model.embedding.weight.device.type == DEVICE


def uses_bfloat16(weights: str) -> bool:
    """Return whether a GPU computes in bf16 with this format of the weights; "auto": where it does so natively."""
    is_native = weights == "auto" and torch.cuda.is_bf16_supported(including_emulation=False)
    return is_native or weights == "bfloat16"


def count_fitting_rows(config: TransformerConfig, longest: int) -> int:
    """Return how many sequences of at most `longest` tokens a GPU had better generate at once."""
    size = 2 * 4 * config.layers * config.kv_heads * config.head_dim * longest
    return max(1, min(MAX_ROWS, MAX_CACHE_BYTES // size))


def bucket(tokens: int) -> int:
    """Round a number of tokens up to a multiple of 128, or to a quarter of a power of two if that is more."""
    step = max(128, 1 << max(0, (tokens - 1).bit_length() - 3))
    return -(-tokens // step) * step


class GpuDecoder:
    """The steps of one model. They follow when the model is trained further, but for layers that are fused."""

    @torch.no_grad()
    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.blocks = [_DecoderBlock(cast(Block, block)) for block in model.blocks]
        self.head = model.head.weight
        if self.head.dtype == torch.bfloat16:
            self.head = align_rows(self.head)
        self._batch: StaticBatch | None = None
        self._user: weakref.ref[object] = weakref.ref(self)

    @classmethod
    def for_model(cls, model: Transformer) -> Self | None:
        """Return a decoder, or None if the model itself has to do the steps."""
        return None if find_unsupported(model, DEVICE, DTYPES) else cls(model)

    def start_batch(
        self,
        user: object,
        cache: KVCache,
        longest: int,
        rows: Sequence[int],
        layout: SequenceLayout,
        memory: EncoderMemory | None,
    ) -> "StaticBatch":
        """Return a batch that continues the sequences `rows` of a prefilled cache, up to `longest` tokens.

        The tensors of the batch before, and the graphs that use them, serve again once its user exists no more.
        """
        count, sources = len(rows), 0 if memory is None else memory.states.shape[1]
        batch, is_free = self._batch, self._user() in (None, self)
        if batch is None or not is_free or not batch.has_room(count, longest, sources):
            if is_free:
                self._batch = batch = None  # free its memory first
            batch = StaticBatch(self, count, longest, sources)
        self._batch, self._user = batch, weakref.ref(user)
        batch.load(cache, rows, layout.left_padding, memory)
        return batch


class StaticBatch:
    """A batch of sequences in tensors that stay where they are.

    Args:
        rows: largest number of sequences. longest: largest number of tokens. sources: those of an encoder's memory.
    """

    def __init__(self, decoder: GpuDecoder, rows: int, longest: int, sources: int) -> None:
        model, config = decoder.model, decoder.model.config
        like = model.embedding.weight
        self.model, self.blocks, self.head, self.config = (
            model,
            decoder.blocks,
            decoder.head,
            config,
        )
        self.graphs = CudaGraphs(like.device, "generation")
        self.rows, self.size, self.sources = rows, bucket(longest), 64 * -(-sources // 64)
        shape = (config.layers, 2, rows, config.kv_heads)
        # Zeros: a masked key takes part in the products with weight 0.
        self.cache = like.new_zeros(*shape, self.size, config.head_dim)  # keys and values
        self.memory = like.new_zeros(*shape, self.sources, config.head_dim)
        self.memory_bias = like.new_zeros(rows, 1, 1, self.sources)
        self.tokens = like.new_zeros(rows, dtype=torch.long)
        self.left_padding = like.new_zeros(rows, dtype=torch.long)
        self.position = like.new_zeros(1, dtype=torch.long)  # of the next token, padding included
        self.length = 0  # the same number on the host
        positions = torch.arange(self.size, device=like.device)
        self.cos = self.sin = self.embedded_positions = None  # [S, D] each, [S, C]
        if model.rotary is not None:
            self.cos, sin = (table[0, 0] for table in model.rotary(positions[None]))
            half = config.head_dim // 2
            # x.roll(half) swaps the halves of a head; the left one is subtracted.
            self.sin = torch.cat((-sin[:, :half], sin[:, half:]), dim=-1)
        elif model.positions is not None:
            self.embedded_positions = model.positions.weight
        else:
            self.embedded_positions = sinusoidal(positions[None], config.d_model)[0].to(like.dtype)
        self.embedding_scale = 1.0 if config.position != "sinusoidal" else config.d_model**0.5

    def has_room(self, rows: int, longest: int, sources: int) -> bool:
        return rows <= self.rows and longest <= self.size and sources <= self.sources

    def load(
        self,
        cache: KVCache,
        rows: Sequence[int],
        left_padding: Tensor | None,
        memory: EncoderMemory | None,
    ) -> None:
        """Copy sequences of a prefilled cache; a sequence may be repeated."""
        self.batch, self.length = len(rows), cache.length
        self.prompt_length = cache.length
        self.position.fill_(self.length)
        index = torch.tensor(rows, device=self.position.device)
        for part, target in enumerate((cache.keys, cache.values)):
            self.cache[:, part, : self.batch, :, : self.length] = target[:, index, :, : self.length]
        self.left_padding.zero_()
        if left_padding is not None:
            self.left_padding[: self.batch] = left_padding[index]
        self.memory_size = 0
        if memory is not None:
            size = memory.states.shape[1]
            self.memory_size = 64 * -(-size // 64)
            for layer, keys_and_values in cache.cross.items():
                for part, target in enumerate(keys_and_values):
                    self.memory[layer, part, : self.batch, :, :size] = target[index]
            self.memory_bias.fill_(-torch.inf)
            allowed = memory.mask.allowed
            if allowed is None:
                self.memory_bias[..., :size] = 0
            else:
                self.memory_bias[: self.batch, ..., :size].masked_fill_(allowed[index], 0)

    def select(self, rows: Tensor, has_same_prompts: bool = False) -> None:
        """Reorder, repeat or drop sequences in place, as DecodeState does; there are never more than before."""
        count, start = len(rows), self.prompt_length if has_same_prompts else 0
        cache = self.cache[:, :, : self.batch, :, start : self.length]
        self.cache[:, :, :count, :, start : self.length] = cache[:, :, rows]
        self.batch = count
        if has_same_prompts:
            return
        self.left_padding[:count] = self.left_padding[rows]
        if self.memory_size:
            self.memory[:, :, :count] = self.memory[:, :, rows]
            self.memory_bias[:count] = self.memory_bias[rows]

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each sequence, [B], and return the logits of the next one, [B, V], until the next step."""
        rows, size, sources = self.batch, min(bucket(self.length + 1), self.size), self.memory_size
        self.tokens[:rows].copy_(tokens)
        self.length += 1
        return self.graphs.run((rows, size, sources), lambda: self._step(rows, size, sources))

    def _step(self, rows: int, size: int, sources: int) -> Tensor:
        """Compute a step from the tensors of the batch alone; keys beyond the position are masked."""
        position, padding = self.position, self.left_padding[:rows]
        positions = position - padding  # [B]
        x = F.embedding(self.tokens[:rows], self.model.embedding.weight)  # [B, C]
        rotation = None
        if self.cos is not None and self.sin is not None:
            rotation = self.cos[positions][:, None], self.sin[positions][:, None]
        elif self.embedded_positions is not None:
            added = self.embedded_positions[positions]
            x = torch.add(added, x, alpha=self.embedding_scale)
        biases = {window: self._bias(padding, size, window) for window in set(self.config.windows)}
        cache, memory = self.cache[:, :, :rows, :, :size], self.memory[:, :, :rows, :, :sources]
        memory_bias = self.memory_bias[:rows, ..., :sources]
        for block, window, own, other in zip(
            self.blocks, self.config.windows, cache, memory, strict=True
        ):
            x = block.attend(x, rotation, own, position, biases[window])
            if sources:
                x = block.attend_to_memory(x, other, memory_bias)
            x = block.feed_forward(x)
        self.position.add_(1)
        return F.linear(self.model.norm(x), self.head)[:, : self.config.vocab_size]

    def _bias(self, padding: Tensor, size: int, window: int) -> Tensor:
        """Return what is added to the scores of a layer, [B, 1, 1, S]: 0, or -inf where a key is masked."""
        predicates: list[Predicate] = [causal, after_left_padding(padding)]
        if window:
            predicates.append(sliding_window(window))
        rows = torch.arange(len(padding), device=padding.device)[:, None, None, None]
        keys = torch.arange(size, device=padding.device)[None, None, None]
        allowed = and_masks(*predicates)(rows, self.position[None, None, None], keys)
        bias = self.cache.new_zeros(allowed.shape)
        return bias.masked_fill_(~allowed, -torch.inf)


class _DecoderBlock:
    """One block, applied to one token of each sequence, x [B, C]."""

    def __init__(self, block: Block) -> None:
        attention, feed_forward = block.attention, block.feed_forward
        assert isinstance(feed_forward, FeedForward)
        self.block, self.attention, self.kind = block, attention, feed_forward.kind
        self.query_key_value = _Linear(attention.query, attention.key, attention.value)
        up = (
            [feed_forward.up] if feed_forward.gate is None else [feed_forward.up, feed_forward.gate]
        )
        self.up, self.down = _Linear(*up), feed_forward.down
        self.gain: Tensor | None = None
        if attention.query_norm is not None and attention.key_norm is not None:
            query_gain = attention.query_norm.weight.expand(attention.heads, -1)
            key_gain = attention.key_norm.weight.expand(attention.kv_heads, -1)
            self.gain = torch.cat((query_gain, key_gain))  # [H + G, D]
            self.eps = attention.query_norm.eps

    def attend(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        cache: Tensor,
        position: Tensor,
        bias: Tensor,
    ) -> Tensor:
        """Apply self-attention with keys and values [2, B, G, S, D]; those of the token are written at its position."""
        attention = self.attention
        H, G, D = attention.heads, attention.kv_heads, attention.head_dim  # noqa: N806
        fused = self.query_key_value(self.block.attention_norm(x)).view(-1, H + 2 * G, D)
        query_key, value = fused.split((H + G, G), dim=1)
        if self.gain is not None:
            query_key = F.rms_norm(query_key, (D,), eps=self.eps) * self.gain
        if rotation is not None:
            cos, sin = rotation
            rotated = torch.addcmul(query_key * cos, query_key.roll(D // 2, dims=-1), sin)
            query_key = rotated.to(x.dtype)
        query, key = query_key.split((H, G), dim=1)
        keys, values = cache
        keys.index_copy_(2, position, key[:, :, None])
        values.index_copy_(2, position, value[:, :, None])
        return x + attention.output(_attend(query, keys, values, bias))

    def attend_to_memory(self, x: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        """Apply cross-attention to keys and values of an encoder's memory [2, B, G, M, D]."""
        cross, norm = self.block.cross_attention, self.block.cross_norm
        assert cross is not None
        assert norm is not None
        query = cross.query(norm(x)).view(-1, cross.heads, cross.head_dim)
        query = query if cross.query_norm is None else cross.query_norm(query)
        return x + cross.output(_attend(query, memory[0], memory[1], bias))

    def feed_forward(self, x: Tensor) -> Tensor:
        up = self.up(self.block.feed_forward_norm(x))
        up, gate = up.chunk(2, dim=-1) if self.kind == "swiglu" else (up, None)
        return x + self.down(activate(self.kind, up, gate))


class _Linear:
    """Linear layers with the same input; their outputs are concatenated."""

    def __init__(self, *layers: nn.Linear) -> None:
        self.parts: list[tuple[Tensor, Tensor | None]]
        self.parts = [(layer.weight, layer.bias) for layer in layers]
        if len(layers) > 1 and sum(layer.weight.numel() for layer in layers) <= MAX_FUSED_WEIGHTS:
            weight = torch.cat([layer.weight for layer in layers])
            has_bias = layers[0].bias is not None
            bias = torch.cat([layer.bias for layer in layers]) if has_bias else None
            self.parts = [(weight, bias)]

    def __call__(self, x: Tensor) -> Tensor:
        outputs = [F.linear(x, weight, bias) for weight, bias in self.parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)


def _attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Attend with query [B, H, D] -> [B, H D]; heads that share keys are several queries of one head."""
    B, H, D = query.shape  # noqa: N806
    query = query.reshape(B, keys.shape[1], -1, D)
    with sdpa_kernel(ATTENTION_KERNELS):
        return F.scaled_dot_product_attention(query, keys, values, bias).reshape(B, H * D)
