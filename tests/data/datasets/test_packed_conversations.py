import random

import numpy as np
import pytest
import torch
from models import GPT2, SHAPE, a_model

from gptexp.config import schema
from gptexp.data.batch import IGNORE
from gptexp.data.build_store import build_store
from gptexp.data.corpora import Corpus, Example
from gptexp.data.datasets.packed_conversations import ConversationDataset, PackedConversations
from gptexp.data.token_store import TokenizedExample, TokenStore, read_bits
from gptexp.tasks.layout import PromptCompletion

CONTEXT = SHAPE["context"]


def draw_conversations() -> list[list[tuple[int, bool]]]:
    """Tokens with a flag each, in turns of random length; none is longer than a window."""
    rng = random.Random(0)
    conversations = []
    for _ in range(60):
        length = rng.choice([3, 7, 8, 12, CONTEXT + 1])
        is_learned = [False, *rng.choices([True, False], k=length - 2), True]
        conversations.append([(rng.randrange(5, 50), flag) for flag in is_learned])
    return conversations


class Numbers(Corpus):
    """Examples that name a conversation."""

    def __iter__(self):
        return (Example({"source": f"number {i}", "target": "x"}) for i in range(60))

    def describe(self):
        return {"source": "numbers"}


class Flags(PromptCompletion):
    def encode(self, examples, tokenizer):
        for example in examples:
            number = int(example.fields["source"].split()[1])
            tokens, learned = map(list, zip(*draw_conversations()[number], strict=True))
            yield TokenizedExample(tokens, targets=sum(learned[1:]), learned=learned)


@pytest.fixture
def store(own_folder) -> TokenStore:
    data = schema.DataConfig(split="exact", val_fraction=0, test_fraction=0)
    return build_store(
        Numbers(), Flags(CONTEXT, 4), data, schema.ByteConfig(), own_folder / "cache"
    )


def rows_of(dataset):
    numbers = np.arange(len(dataset))
    return dataset.batch(numbers, 0, numbers)


def test_the_store_keeps_a_bit_for_each_token(store):
    flags = [flag for conversation in draw_conversations() for _, flag in conversation]
    packed = store.learned("train")
    assert packed.dtype == np.uint8
    assert len(packed) == -(-len(flags) // 8)
    for start, length in ((0, len(flags)), (3, 2), (8, 8), (13, 40), (len(flags) - 1, 1)):
        assert read_bits(packed, start, length).tolist() == flags[start : start + length]
    assert not (store.folder / "val.learned").exists()


def test_each_conversation_is_in_one_window_with_its_own_targets(store):
    batch = rows_of(PackedConversations(store, "train", CONTEXT, seed=1))
    unpacked = rows_of(ConversationDataset(store, "train"))
    packed = []
    for row in range(len(batch)):
        for number in batch.documents[row].unique().tolist():
            place = batch.documents[row] == number
            assert batch.positions[row][place].tolist() == list(range(int(place.sum())))
            packed.append((batch.tokens[row][place].tolist(), batch.targets[row][place].tolist()))
    expected = [
        (tokens[:length].tolist(), targets[:length].tolist())
        for tokens, targets, length in zip(
            unpacked.tokens, unpacked.targets, unpacked.lengths, strict=True
        )
    ]
    pad = store.tokenizer.pad
    assert sorted(row for row in packed if set(row[0]) != {pad}) == sorted(expected)
    flags = [flag for conversation in draw_conversations() for _, flag in conversation[1:]]
    assert batch.counts == unpacked.counts == (sum(flags), 0, len(flags))
    assert len(batch) <= 1.1 * len(flags) / CONTEXT
    assert int((batch.targets != IGNORE).sum()) == sum(flags)


@pytest.mark.parametrize("switches", [{}, GPT2, {"window": 4, "position": "sinusoidal"}])
def test_packed_conversations_have_the_loss_of_one_a_sequence(switches, store):
    model = a_model(**switches)
    packed = rows_of(PackedConversations(store, "train", CONTEXT, seed=1))
    one_by_one = rows_of(ConversationDataset(store, "train"))
    losses, gradients = [], []
    for batch in (packed, one_by_one):
        model.zero_grad()
        losses.append(model.loss(**batch.inputs()).targets)
        losses[-1].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*losses)
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[1].norm()


def test_micro_batches_keep_their_positions(store):
    batch = rows_of(PackedConversations(store, "train", CONTEXT, seed=1))
    parts = list(batch.split(3))
    assert torch.equal(torch.cat([part.positions for part in parts]), batch.positions)
