"""Samples of pretraining: pieces of held-out documents, and the text that follows each."""

import random
from string import ascii_letters

import numpy as np
import pytest

from gptexp.config.schema import ByteConfig
from gptexp.data.tokenizers import build
from gptexp.tasks.pretrain import TextStream, find_piece

BYTES = build(ByteConfig(), [])
EOS = BYTES.eos


class Store:
    """The tokens of a split of documents."""

    tokenizer = BYTES

    def __init__(self, documents):
        self.stream = np.array(
            [token for text in documents for token in [*BYTES.encode(text), EOS]]
        )

    def tokens(self, split):
        return self.stream


@pytest.mark.parametrize("seed", range(8))
def test_samples_differ_and_no_reference_goes_on_into_the_next_document(seed):
    rng = random.Random(seed)
    sizes = [rng.choice([1, 5, 30, 90, 400]) for _ in range(rng.choice([1, 4, 60]))]
    documents = [f"<{''.join(rng.choices(ascii_letters, k=size))}>" for size in sizes]
    layout = TextStream(context=64, max_new_tokens=24)
    samples = list(layout.eval_examples(Store(documents), "test", 8))
    assert 1 <= len(samples) <= 8
    assert len({(sample.input, sample.reference) for sample in samples}) == len(samples)
    for sample in samples:
        assert sample.input
        assert sample.reference
        assert any(sample.input + sample.reference in document for document in documents)
    if len(documents) == 60:
        assert len(samples) == 8


def test_a_text_that_is_hardly_longer_than_a_prompt_has_samples_that_differ():
    layout = TextStream(context=64, max_new_tokens=24)
    samples = list(
        layout.eval_examples(Store(["abcdefghijklmnopqrstuvwxyz0123456789" * 2]), "test", 8)
    )
    assert len({sample.input for sample in samples}) == 8


def test_a_piece_without_an_end_of_text_in_it_is_where_it_was_asked_for():
    tokens = np.array([1, 2, 3, EOS, *range(4, 40)])
    assert find_piece(tokens, 4, 8, 4, EOS) == (4, 12, 16)
    assert find_piece(tokens, 1, 8, 4, EOS) == (4, 12, 16)
    assert find_piece(tokens, 0, 8, 4, EOS) == (0, 1, 3)
    assert find_piece(tokens, 38, 8, 4, EOS) is None
