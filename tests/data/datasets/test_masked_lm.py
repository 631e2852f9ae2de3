import numpy as np
import pytest

from gptexp.data.batch import IGNORE
from gptexp.data.loader import HeldOutDataset, StepIndexedDataset
from gptexp.tasks.prepare import prepare


@pytest.fixture
def masked(tiny, text_file):
    def build(*more):
        config = tiny(
            "task=mlm", "tokenizer.vocab_size=300", "data=files", f"data.path={text_file}", *more
        )
        prepared = prepare(config)
        return prepared.task.layout.dataset(prepared.store, "train", 1), prepared.store.tokenizer

    return build


def test_hidden_tokens_are_a_function_of_seed_epoch_and_sequence(masked):
    sequences, _ = masked()
    some = np.arange(8)
    one, two = (sequences.batch(some, 0, some) for _ in range(2))
    assert one.tokens.equal(two.tokens)
    assert one.targets.equal(two.targets)
    alone = sequences.batch(some[3:4], 0, some)
    assert alone.targets[0].equal(one.targets[3])
    assert alone.counts.targets == one.counts.targets == int((one.targets != IGNORE).sum())
    assert not sequences.batch(some, 1, some).targets.equal(one.targets)


def test_15_percent_are_hidden_8_of_10_behind_the_mask(masked):
    sequences, tokenizer = masked()
    every = np.arange(len(sequences))
    batch = sequences.batch(every, 0, every)
    hidden = batch.targets != IGNORE
    assert float(hidden.float().mean()) == pytest.approx(0.15, abs=0.02)
    assert float((batch.tokens[hidden] == tokenizer.mask).float().mean()) == pytest.approx(
        0.8, abs=0.03
    )
    assert float((batch.tokens[hidden] == batch.targets[hidden]).float().mean()) == pytest.approx(
        0.1, abs=0.03
    )
    untouched = sequences.inner.batch(every, 0, every).tokens
    assert batch.tokens[~hidden].equal(untouched[~hidden])
    assert batch.targets[hidden].equal(untouched[hidden])


def test_whole_words_are_hidden_together(masked):
    sequences, tokenizer = masked("task.whole_words=true")
    every = np.arange(len(sequences))
    batch = sequences.batch(every, 0, every)
    unmasked = sequences.inner.batch(every, 0, every).tokens
    goes_on = np.array(
        [tokenizer.decode([token])[:1].isalnum() for token in range(tokenizer.vocab_size)]
    )[unmasked]
    hidden = (batch.targets != IGNORE).numpy()
    assert hidden.any()
    assert (hidden[:, 1:] == hidden[:, :-1])[
        goes_on[:, 1:] & (unmasked[:, :-1] != tokenizer.eos).numpy()
    ].all()


def test_ranks_agree_on_the_number_of_targets(masked):
    sequences, _ = masked()
    parts = [StepIndexedDataset(sequences, 1, 8, rank, 2)[3] for rank in range(2)]
    assert (
        parts[0].counts.targets
        == parts[1].counts.targets
        == sum(int((p.targets != IGNORE).sum()) for p in parts)
    )
    assert (HeldOutDataset(sequences, 4)[1].targets != IGNORE).any()
