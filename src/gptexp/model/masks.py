"""Attention masks: which positions a query may attend to, composed from predicates on (query, key) positions.

The composition is that of FlexAttention (Dong et al. 2024, arXiv 2412.05496): a predicate maps positions to booleans,
and_masks and or_masks combine predicates. SequenceLayout knows which of them a pass needs, and makes a dense mask of
them, or one of FlexAttention, which computes no scores of blocks that are not allowed.

Legend: B sequences, T queries, S keys. A query stands at the position of its token, and so does a key.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from gptexp.model.config import TransformerConfig

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

# Numbers of sequences [B, 1, 1, 1], positions of queries [1, 1, T, 1] and of keys [1, 1, 1, S] -> True where attention
# is allowed, broadcastable to [B, 1, T, S]. FlexAttention passes one number of each.
Predicate = Callable[[Tensor, Tensor, Tensor], Tensor]
# torch.nn.attention.flex_attention.create_block_mask
BlockMaskBuilder = Callable[..., "BlockMask"]


def causal(_: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return key <= query


def same_position(_: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return key == query


def first_keys(lengths: Tensor) -> Predicate:
    """Allow the first lengths [B] keys: a prefix (Raffel et al. 2020, arXiv 1910.10683), or all but right padding."""
    return lambda row, _, key: key < lengths[row]


def after_left_padding(left_padding: Tensor) -> Predicate:
    """Allow all keys but the first left_padding [B]."""
    return lambda row, _, key: key >= left_padding[row]


def same_document(documents: Tensor) -> Predicate:
    """Allow queries and keys with equal numbers in documents [B, S]."""
    return lambda row, query, key: documents[row, query] == documents[row, key]


def sliding_window(window: int) -> Predicate:
    """Allow the `window` nearest keys on a side, the query's own among them (Beltagy et al. 2020, arXiv 2004.05150)."""
    return lambda _, query, key: (query - key).abs() < window


def and_masks(*predicates: Predicate) -> Predicate:
    return lambda *at: reduce(torch.logical_and, [allows(*at) for allows in predicates])


def or_masks(*predicates: Predicate) -> Predicate:
    return lambda *at: reduce(torch.logical_or, [allows(*at) for allows in predicates])


@dataclass(frozen=True, eq=False)
class AttentionMask:
    """Which keys the queries of one layer may attend to.

    allowed: [B or 1, 1, T or 1, S], True where attention is allowed. None: everywhere, or with `is_causal` at keys up
    to the query's position. A single query is after all keys, and its mask is not causal.
    blocks: the same for FlexAttention, in the place of `allowed`.
    """

    allowed: Tensor | None = None
    is_causal: bool = False
    blocks: "BlockMask | None" = None

    def select(self, rows: Tensor) -> Self:
        """Return the mask of the sequences rows [N]."""
        return self if self.allowed is None else replace(self, allowed=self.allowed[rows])


@dataclass(frozen=True, eq=False)
class SequenceLayout:
    """How the sequences of a pass are laid out.

    documents: [B, S], numbers of documents; attention stays among equal numbers.
    prefix: [B], tokens of the prompt, which every token may attend to where model.arch is prefix.
    lengths: [B], tokens of sequences that are padded on the right.
    left_padding: [B], tokens of padding on the left.
    """

    documents: Tensor | None = None
    prefix: Tensor | None = None
    lengths: Tensor | None = None
    left_padding: Tensor | None = None

    def select(self, rows: Tensor) -> Self:
        """Return the layout of the sequences rows [N]."""
        tensors = {name: x[rows] for name, x in vars(self).items() if x is not None}
        return replace(self, **tensors)

    def mask(
        self,
        queries: int,
        past: int = 0,
        *,
        device: torch.device | None = None,
        is_causal: bool = True,
        has_prefix: bool = False,
        window: int = 0,
        build_blocks: BlockMaskBuilder | None = None,
    ) -> AttentionMask:
        """Build the mask of `queries` tokens that follow `past` tokens, in a cache or in earlier chunks.

        Args:
            has_prefix: tokens of the prefix attend to each other in both directions.
            window: keys that a query sees on a side, its own included; 0: all.
            build_blocks: builds a mask of FlexAttention; None: the mask is dense.
        """
        is_step = past > 0 and queries == 1  # one token after the cache: all keys are before it
        order: list[Predicate] = [causal] if is_causal and not is_step else []
        if has_prefix and self.prefix is not None and order:
            order = [or_masks(causal, first_keys(self.prefix))]
        if 0 < window < past + queries:
            order.append(sliding_window(window))
        if self.documents is not None:
            order.append(same_document(self.documents))
        padding: list[Predicate] = []
        if self.left_padding is not None:
            padding.append(after_left_padding(self.left_padding))
        if self.lengths is not None and not is_causal:  # causal queries never see right padding
            padding.append(first_keys(self.lengths))

        if not padding and (not order or (order == [causal] and past == 0)):
            return AttentionMask(is_causal=is_causal and queries > 1)
        allowed = and_masks(*order, *padding)
        if order and padding:  # a query of the padding attends to itself: its softmax needs a key
            allowed = or_masks(allowed, same_position)
        sequences = next((len(x) for x in vars(self).values() if x is not None), 1)
        if build_blocks is not None:
            predicate = allowed  # FlexAttention passes the number of a head, too
            blocks = build_blocks(
                lambda row, _, query, key: predicate(row, query + past, key),
                sequences,
                None,
                queries,
                past + queries,
                device=device,
            )
            return AttentionMask(is_causal=is_causal, blocks=blocks)
        row = torch.arange(sequences, device=device)[:, None, None, None]
        query = torch.arange(past, past + queries, device=device)[None, None, :, None]
        key = torch.arange(past + queries, device=device)[None, None, None, :]
        return AttentionMask(allowed(row, query, key), is_causal)


def layer_masks(
    config: TransformerConfig,
    layout: SequenceLayout,
    queries: int,
    past: int = 0,
    device: torch.device | None = None,
    is_causal: bool | None = None,
    build_blocks: BlockMaskBuilder | None = None,
) -> list[AttentionMask]:
    """Build the mask of each layer for `queries` tokens after `past` tokens in a cache; equal masks are shared.

    Args:
        is_causal: None: as config.arch demands.
        build_blocks: as for SequenceLayout.mask.
    """
    is_causal = config.arch != "encoder" if is_causal is None else is_causal
    masks = {
        window: layout.mask(
            queries,
            past,
            device=device,
            is_causal=is_causal,
            has_prefix=config.arch == "prefix",
            window=window,
            build_blocks=build_blocks,
        )
        for window in set(config.windows)
    }
    return [masks[window] for window in config.windows]
