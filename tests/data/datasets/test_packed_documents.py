from types import SimpleNamespace

import numpy as np
import pytest
import torch
from models import SHAPE, a_model

from gptexp.data.datasets import packed_documents
from gptexp.data.datasets.packed_documents import (
    PackedDocuments,
    best_fit,
    cut_documents,
    find_ends,
)
from gptexp.data.token_ranges import MappedTokens
from gptexp.errors import UserError

CONTEXT = SHAPE["context"]


class Store:
    """Documents of these lengths, whose tokens are all different, so that a token names its place."""

    tokenizer = SimpleNamespace(eos=0)

    def __init__(self, lengths):
        self.documents, next_token = [], 1
        for length in lengths:
            self.documents.append([*range(next_token, next_token + length - 1), 0])
            next_token += length - 1
        self.stream = np.array([token for tokens in self.documents for token in tokens])

    def tokens(self, split):
        return MappedTokens([self.stream])


def draw_lengths(seed, count, longest):
    return np.random.default_rng(seed).integers(1, longest + 1, count).tolist()


def pack(lengths, seed=1, context=CONTEXT, document_mask=True):
    return PackedDocuments(Store(lengths), "train", context, seed, document_mask)


def all_windows(windows):
    numbers = np.arange(len(windows))
    return windows.batch(numbers, 0, numbers)


def best_fit_one_by_one(lengths, size):
    """Return what best fit decreasing puts into each bin, in the simplest way."""
    bins = []
    for length in sorted(lengths, reverse=True):
        fitting = [items for items in bins if sum(items) + length <= size]
        if not fitting:
            bins.append(fitting := [])
            fitting = [fitting]
        max(fitting, key=sum).append(length)
    return sorted(map(sum, bins))


@pytest.mark.parametrize("seed", range(20))
def test_bins_are_as_full_as_those_of_best_fit_one_item_at_a_time(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 50))
    lengths = rng.integers(1, size + 1, int(rng.integers(1, 300)))
    bins = best_fit(lengths, size, np.arange(len(lengths), dtype=np.uint64))
    loads = np.bincount(bins, lengths).astype(int)
    assert loads.max() <= size
    assert sorted(loads) == best_fit_one_by_one(lengths.tolist(), size)


def test_documents_that_fit_into_a_window_stay_in_one_piece():
    lengths = draw_lengths(0, 200, CONTEXT + 1)
    windows = pack(lengths)
    batch = all_windows(windows)
    rows = [
        [*row.tolist(), *target[-1:].tolist()]
        for row, target in zip(batch.tokens, batch.targets, strict=True)
    ]
    for document in Store(lengths).documents:
        text = document[:-1]
        if text:
            [row] = [row for row in rows if text[0] in row]
            start = row.index(text[0])
            assert row[start : start + len(text)] == text
    assert len(windows) * (CONTEXT + 1) < 1.1 * sum(lengths)


@pytest.mark.parametrize("longest", [10, CONTEXT + 2, 200])
def test_every_token_is_the_target_of_one_window_but_the_first_of_each_window(longest):
    lengths = draw_lengths(1, 150, longest)
    windows = pack(lengths)
    batch = all_windows(windows)
    targets = batch.targets[batch.targets >= 0].tolist()
    first_of_windows = [row[0].item() for row in batch.tokens]
    tokens = Store(lengths).stream.tolist()
    seen = np.bincount(targets + [token for token in first_of_windows if token not in targets])
    assert (seen[1:] == 1).all()
    assert len(seen) == max(tokens) + 1
    assert batch.counts.targets == len(targets)
    is_first = [token not in targets for token in first_of_windows]
    lost_ends = tokens.count(0) - seen[0]
    assert 0 <= lost_ends <= len(windows) - sum(is_first)


@pytest.mark.parametrize("context", [5, CONTEXT])
def test_each_target_follows_its_token_in_the_stream_or_ends_a_document(context):
    batch = all_windows(pack(draw_lengths(2, 100, 90), context=context))
    for row, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        for token, target in zip(row, targets, strict=True):
            assert target in (token + 1, 0, -100) or token == 0


def test_the_loss_of_packed_documents_is_that_of_each_document_alone():
    model = a_model(vocab_size=600)
    lengths = draw_lengths(3, 40, CONTEXT)
    batch = all_windows(pack(lengths))
    packed = model.loss(batch.tokens, batch.targets, batch.documents).targets
    alone = 0.0
    for row, targets, documents in zip(batch.tokens, batch.targets, batch.documents, strict=True):
        for number in documents.unique():
            part = documents == number
            alone += model.loss(row[part][None], targets[part][None]).targets.item()
    assert packed.item() == pytest.approx(alone, rel=1e-5)


def test_windows_follow_from_the_seed_and_stay_the_same_in_all_epochs():
    lengths = draw_lengths(4, 100, CONTEXT)
    one, again, other = (all_windows(pack(lengths, seed)).tokens for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    windows = pack(lengths)
    indices = np.array([3])
    first, later = (windows.batch(indices, epoch, indices) for epoch in (0, 5))
    assert torch.equal(first.tokens, later.tokens)


def test_a_rank_knows_the_targets_of_the_global_batch():
    windows = pack(draw_lengths(5, 100, 60))
    everything = np.arange(8)
    parts = [windows.batch(everything[rank::2], 0, everything) for rank in (0, 1)]
    assert parts[0].counts == parts[1].counts
    assert parts[0].counts.targets == sum(int((part.targets >= 0).sum()) for part in parts)


def test_ends_are_found_across_parts_of_the_stream_and_where_the_last_document_has_none(
    monkeypatch,
):
    monkeypatch.setattr(packed_documents, "SCANNED_TOKENS", 3)
    assert find_ends(np.array([1, 1, 0, 0, 1, 0]), 0).tolist() == [3, 4, 6]
    assert find_ends(np.array([1, 0, 1]), 0).tolist() == [2, 3]
    assert find_ends(np.array([1, 1]), 0).tolist() == [2]


def test_pieces_of_a_long_document_share_one_token():
    starts, lengths, is_later = cut_documents(np.array([4, 26]), 10)
    assert starts.tolist() == [0, 4, 14, 24]
    assert lengths.tolist() == [4, 11, 11, 2]
    assert is_later.tolist() == [False, False, True, True]


def test_a_single_token_is_refused():
    with pytest.raises(UserError, match="the train split has 1 token, too few to train on"):
        pack([1])
