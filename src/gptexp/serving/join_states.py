"""Join sequences to a batch that is being decoded, so that a new request need not wait for the running ones.

A row of the KV cache may have any amount of padding on its left, because positions count from its end. A batch with
fewer tokens is therefore moved to the right until all end at the same place.

Legend: B sequences, G key/value heads, S tokens, M tokens of an encoder's memory, D size of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gptexp.generation.cpu_decoder import CpuDecoder
from gptexp.generation.decode_state import DecodeState
from gptexp.generation.gpu_decoder import GpuDecoder, StaticBatch
from gptexp.model.attention import EncoderMemory, KVCache
from gptexp.model.masks import AttentionMask, SequenceLayout


@dataclass(frozen=True, eq=False)
class _Sequences:
    """The sequences of a state, in its own tensors or in copies of those of a StaticBatch."""

    cache: KVCache
    padding: Tensor  # [B], on the left
    memory_mask: Tensor | None  # [B, 1, 1, M]; None: the model has no encoder

    @property
    def cut(self) -> int:
        """The number of leading columns that no sequence uses."""
        return int(self.padding.min())

    @property
    def longest(self) -> int:
        return self.cache.length - self.cut


def join_states(
    states: Sequence[DecodeState], room: int, decoder: CpuDecoder | GpuDecoder | None
) -> DecodeState:
    """Return the first state with the sequences of all; the others are of no use afterwards.

    On a GPU, copies of the first sequence may follow: see `_load_static_batch`.

    Args:
        room: tokens that each sequence may still get.
        decoder: computes the steps; None: the model itself does.
    """
    parts, joined = [_read_sequences(state) for state in states], states[0]
    longest = max(part.longest for part in parts)
    paddings = [part.padding + (longest - part.cache.length) for part in parts]
    cache = joined.model.new_cache(sum(map(len, paddings)), longest + room)
    start = 0
    for part in parts:
        rows, columns = len(part.padding), slice(part.cut, part.cache.length)
        for target, source in ((cache.keys, part.cache.keys), (cache.values, part.cache.values)):
            target = target[:, start : start + rows, :, longest - part.longest : longest]
            target.copy_(source[:, :, :, columns])
        start += rows
    cache.length = longest
    joined.memory = _join_memories(parts, cache)
    padding = torch.cat(paddings)
    joined.layout = SequenceLayout(left_padding=padding if bool(padding.any()) else None)
    joined.logits = torch.cat([state.logits for state in states])
    joined.cache, joined.decoder = cache, decoder
    if isinstance(decoder, GpuDecoder):
        _load_static_batch(joined, decoder, longest + room)
    return joined


def _read_sequences(state: DecodeState) -> _Sequences:
    batch = state.batch
    if batch is None:
        padding = state.layout.left_padding
        if padding is None:
            rows = state.cache.keys.shape[1]
            padding = torch.zeros(rows, dtype=torch.long, device=state.cache.keys.device)
        mask = None
        if state.memory is not None:
            mask = state.memory.mask.allowed
            if mask is None:
                rows, size = state.memory.states.shape[:2]
                mask = torch.ones(rows, 1, 1, size, dtype=torch.bool, device=padding.device)
        return _Sequences(state.cache, padding, mask)
    rows = batch.batch
    keys, values = batch.cache[:, :, :rows, :, : batch.length].transpose(0, 1).clone()
    cache, mask = KVCache(keys, values, batch.length), None
    if batch.memory_size:
        mask = batch.memory_bias[:rows, ..., : batch.memory_size] == 0
        for layer, memory in enumerate(batch.memory[:, :, :rows, :, : batch.memory_size].clone()):
            cache.cross[layer] = memory[0], memory[1]
    return _Sequences(cache, batch.left_padding[:rows].clone(), mask)


def _join_memories(parts: Sequence[_Sequences], cache: KVCache) -> EncoderMemory | None:
    """Write the encoder's keys and values to a cache, and return the memory, padded on the right to the longest.

    Its states are left empty: the steps after a prefill read the keys and values alone.
    """
    masks = [part.memory_mask for part in parts if part.memory_mask is not None]
    if not masks:
        return None
    longest = max(mask.shape[-1] for mask in masks)
    for layer in parts[0].cache.cross:
        keys, values = (
            torch.cat([F.pad(x, (0, 0, 0, longest - x.shape[2])) for x in tensors])
            for tensors in zip(*(part.cache.cross[layer] for part in parts), strict=True)
        )
        cache.cross[layer] = keys, values
    allowed = torch.cat([F.pad(mask, (0, longest - mask.shape[-1])) for mask in masks])
    states = cache.keys.new_zeros(len(allowed), longest, 0)
    return EncoderMemory(states, AttentionMask(allowed))


def _load_static_batch(state: DecodeState, decoder: GpuDecoder, longest: int) -> None:
    """Move the sequences into tensors that stay where they are: CUDA graphs that were recorded for them serve again.

    Graphs are recorded for each number of rows, so copies of the first sequence fill up to a power of two.
    """
    rows, sources = fill_rows(range(len(state.logits))), 0
    if state.memory is not None:
        sources = state.memory.states.shape[1]
    batch = state.batch
    if batch is None or not batch.has_room(len(rows), longest, sources):
        state.batch = batch = None  # free its memory first
        batch = StaticBatch(decoder, len(rows), longest, sources)
    batch.load(state.cache, rows, state.layout.left_padding, state.memory)
    state.batch, state.logits = batch, state.logits[rows]
    del state.cache


def fill_rows(rows: Sequence[int]) -> list[int]:
    """Repeat the first of the rows until their number is a power of two."""
    missing = (1 << (len(rows) - 1).bit_length()) - len(rows)
    return [*rows, *[rows[0]] * missing]
