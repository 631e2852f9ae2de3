"""Masks against loops over positions."""

import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

from gptexp.model import SequenceLayout

LAYOUTS = {
    "plain": {},
    "documents": {"documents": torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 2, 2, 2]])},
    "prefix": {"prefix": torch.tensor([3, 5])},
    "right padding": {"lengths": torch.tensor([7, 4])},
    "left padding": {"left_padding": torch.tensor([0, 4])},
    "prefix and left padding": {
        "prefix": torch.tensor([6, 6]),
        "left_padding": torch.tensor([0, 2]),
    },
    "documents and right padding": {
        "documents": torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 2, 2, 2]]),
        "lengths": torch.tensor([7, 5]),
    },
}


def is_allowed(layout, row, query, key, is_causal, has_prefix, window):
    """Attention by its definition, one pair of positions at a time."""

    def value(name):
        tensor = getattr(layout, name)
        return None if tensor is None else tensor[row].tolist()

    allowed = key <= query or not is_causal
    if is_causal and has_prefix and value("prefix") is not None:
        allowed = allowed or key < value("prefix")
    if window:
        allowed = allowed and abs(query - key) < window
    if value("documents") is not None:
        allowed = allowed and value("documents")[query] == value("documents")[key]
    if value("left_padding") is not None:
        allowed = allowed and key >= value("left_padding")
    if value("lengths") is not None and not is_causal:
        allowed = allowed and key < value("lengths")
    return allowed


@pytest.mark.parametrize("window", [0, 3, 7])
@pytest.mark.parametrize("kind", ["causal", "prefix", "bidirectional"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_are_their_definition(name, kind, window):
    layout = SequenceLayout(**LAYOUTS[name])
    how = {"is_causal": kind != "bidirectional", "has_prefix": kind == "prefix", "window": window}
    mask = layout.mask(7, **how)
    if mask.allowed is None:
        allowed = torch.ones(2, 7, 7, dtype=torch.bool)
        allowed = allowed.tril() if mask.is_causal else allowed
    else:
        allowed = mask.allowed.expand(2, 1, 7, 7)[:, 0]
    for row in range(2):
        first = 0 if layout.left_padding is None else int(layout.left_padding[row])
        last = 7 if layout.lengths is None else int(layout.lengths[row])
        for query in range(7):
            if not first <= query < last:  # padding: anything but a softmax over nothing
                assert allowed[row, query].any()
                continue
            expected = [is_allowed(layout, row, query, key, **how) for key in range(7)]
            assert allowed[row, query].tolist() == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_flex_attention_has_the_same_masks(name):
    layout = SequenceLayout(**LAYOUTS[name])
    for kind in ({}, {"has_prefix": True}, {"is_causal": False, "window": 3}):
        dense = layout.mask(7, **kind)
        mask = layout.mask(7, **kind, build_blocks=create_mask)  # the mask of the same predicate
        assert (mask.blocks is None) == (dense.allowed is None)
        if mask.blocks is not None:
            assert mask.allowed is None
            assert torch.equal(mask.blocks, dense.allowed.expand_as(mask.blocks))
    if layout.prefix is None:
        later = layout.mask(3, 4, build_blocks=create_mask).blocks  # a chunk of a longer sequence
        allowed = layout.mask(3, 4).allowed
        assert torch.equal(later, allowed.expand_as(later))


@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("padding", [None, torch.tensor([0, 4])])
def test_tokens_after_a_cache_see_what_they_see_without_one(padding, window):
    layout = SequenceLayout(left_padding=padding)
    together = layout.mask(7, window=window).allowed
    if together is None:
        together = torch.ones(7, 7, dtype=torch.bool).tril()
    for past, queries in ((5, 2), (6, 1)):
        mask = layout.mask(queries, past, window=window).allowed
        expected = together.expand(2, 1, 7, 7)[:, :, past:]
        if mask is None:
            assert expected.all()
        else:
            assert torch.equal(mask.expand_as(expected), expected)


def test_a_mask_is_built_only_where_a_kernel_needs_one():
    plain = SequenceLayout()
    assert plain.mask(7).allowed is None
    assert plain.mask(7).is_causal
    assert plain.mask(7, window=7).allowed is None
    assert plain.mask(1, past=6).allowed is None
    assert plain.mask(7, is_causal=False).allowed is None
    assert SequenceLayout(lengths=torch.tensor([3])).mask(7).allowed is None
    assert SequenceLayout(prefix=torch.tensor([3])).mask(7).allowed is None


def test_selected_sequences_keep_their_masks():
    layout = SequenceLayout(**LAYOUTS["left padding"])
    rows = torch.tensor([1, 1, 0])
    expected = layout.mask(7).allowed[rows]
    assert torch.equal(layout.select(rows).mask(7).allowed, expected)
    assert torch.equal(layout.mask(7).select(rows).allowed, expected)
