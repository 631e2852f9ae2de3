from types import SimpleNamespace

import numpy as np
import pytest
import torch
from models import GPT2, a_model

from gptexp.data.batch import IGNORE, pairs_to_rows
from gptexp.data.datasets.preference_pairs import PairTokens, PreferencePairs, pad_pairs
from gptexp.data.token_ranges import MappedTokens
from gptexp.data.token_store import INDEX_DTYPE
from gptexp.loss import LossSums, PreferenceLoss
from gptexp.model.token_loss import compute_log_probs

PAIRS = [
    PairTokens([5, 6, 7], [8, 2], [9, 10, 11, 2]),
    PairTokens([12], [13, 14, 2], [15, 2]),
    PairTokens([16, 17], [18, 2], [19, 2]),
]


@pytest.fixture
def pairs():
    """The pairs of PAIRS, with a loss that has a part of each kind."""
    tokens = [np.concatenate(pair) for pair in PAIRS]
    offsets = np.cumsum([0, *map(len, tokens)])
    index = np.zeros(len(PAIRS), INDEX_DTYPE)
    for entry, pair, row, offset in zip(index, PAIRS, tokens, offsets, strict=False):
        entry["offset"], entry["length"] = offset, len(row)
        entry["prefix"], entry["targets"] = len(pair.prompt), len(pair.chosen)
    store = SimpleNamespace(
        tokens=lambda _: MappedTokens([np.concatenate(tokens)]),
        index=lambda _: index,
        tokenizer=SimpleNamespace(pad=1),
    )
    reference = np.array([[-9, -8], [-7, -9], [-5, -6]], np.float32)
    return PreferencePairs(store, "train", PreferenceLoss("sigmoid", 0.3, 0.5), reference)


def batch_of(pairs, *indices):
    return pairs.batch(np.array(indices), 0, np.arange(3))


def test_answers_are_targets_behind_their_own_copy_of_the_prompt(pairs):
    batch = batch_of(pairs, 1, 0)
    assert batch.counts == (7, 3, 21)  # of the global batch: chosen tokens, pairs, tokens
    assert batch.lengths.tolist() == [3, 6]
    chosen, rejected = batch.sides()
    assert chosen.tokens[0, :3].tolist() == [12, 13, 14]
    assert chosen.targets[0].tolist() == [13, 14, 2, *[IGNORE] * 3]
    assert rejected.tokens[1].tolist() == [5, 6, 7, 9, 10, 11]
    assert rejected.targets[1].tolist() == [IGNORE, IGNORE, 9, 10, 11, 2]
    assert (chosen.lengths.tolist(), rejected.lengths.tolist()) == ([3, 4], [2, 6])
    assert batch.reference.tolist() == [[-7, -9], [-9, -8]]


@pytest.mark.parametrize("more", [{}, GPT2, {"window": 3}, {"experts": 4}], ids=str)
def test_micro_batches_have_the_loss_and_gradients_of_pairs_one_by_one(more, pairs):
    model = a_model(**more)
    together = batch_of(pairs, 0, 1, 2)
    gradients = []
    for parts in ([together], list(together.split(2)), [batch_of(pairs, i) for i in (2, 0, 1)]):
        model.zero_grad()
        sums = [model.loss(**part.inputs()) for part in parts]
        losses = [LossSums(*part[:2], torch.zeros(())).mean(together.counts) for part in sums]
        sum(losses).backward()
        gradients.append([float(sum(losses).detach()), model.blocks[0].attention.value.weight.grad])
    for loss, gradient in gradients[1:]:
        assert loss == pytest.approx(gradients[0][0], abs=1e-5)
        torch.testing.assert_close(gradient, gradients[0][1], atol=1e-5, rtol=1e-4)


def test_a_micro_batch_has_at_most_so_many_tokens_of_both_answers(pairs):
    batch = batch_of(pairs, 0, 1, 2)
    assert [len(part) for part in batch.split(tokens=12)] == [1, 2]
    assert [len(part) for part in batch.split(tokens=24)] == [2, 1]


def test_log_probabilities_are_those_of_each_answer_alone():
    model = a_model()
    tokens, targets = pad_pairs(PAIRS, pad=1)
    with torch.no_grad():
        batched = compute_log_probs(model, pairs_to_rows(tokens), pairs_to_rows(targets))
        for pair, log_probs in zip(PAIRS, batched.view(-1, 2), strict=True):
            for answer, log_prob in zip(pair[1:], log_probs, strict=True):
                row = [*pair.prompt, *answer]
                logits = model.logits(model(torch.tensor([row[:-1]])))[0].log_softmax(-1)
                start = len(pair.prompt) - 1
                alone = sum(float(logits[start + i, token]) for i, token in enumerate(answer))
                assert float(log_prob) == pytest.approx(alone, abs=1e-4)
