import pytest

from gptexp.config.compose import compose_config
from gptexp.planning.workload import DataSizes, describe_workload


def describe(*words, sizes=None):
    return describe_workload(compose_config(["logger=none", *words]), sizes)


@pytest.mark.parametrize(
    ("words", "tokens", "source", "targets"),
    [
        (["task=pretrain", "model.context=64"], 64, 0, 64),
        (["task=summarize", "model.context=128"], 128, 0, 65),
        (["task=summarize", "model.context=128", "task.loss_on_prompt=true"], 128, 0, 128),
        (
            ["task=translate", "model.arch=encoder_decoder", "task.max_target_tokens=31"],
            32,
            225,
            32,
        ),
        (["task=mlm", "model.context=100", "task.mask_fraction=0.2"], 100, 0, 20),
        (["task=nsp"], 256, 0, 0),
        (["task=extract"], 256, 0, 256),
    ],
)
def test_sequences_have_the_lengths_of_the_task(words, tokens, source, targets):
    workload = describe(*words)
    assert (workload.tokens, workload.source, workload.targets) == (tokens, source, targets)


@pytest.mark.parametrize(
    ("words", "vocabulary", "assumption"),
    [
        (["tokenizer=bpe", "tokenizer.vocab_size=1000"], 1000, "a vocabulary of 1,000"),
        (["tokenizer=byte"], 260, ""),
        (["tokenizer=char"], 100, "a vocabulary of 100 characters (--read-data counts them"),
        (["tokenizer=hf"], 50_260, ""),
        (
            ["tokenizer=hf", "tokenizer.name=some/one"],
            50_260,
            "a vocabulary of 50,260, which is GPT-2's",
        ),
        (["tokenizer=char", "model.vocab_size=77"], 77, ""),
        (["task=summarize", "model=small"], 4096, ""),  # starts from base, which has a tokenizer
    ],
)
def test_the_vocabulary_is_known_or_assumed_and_said_to_be(words, vocabulary, assumption):
    workload = describe("task=pretrain", "model=nano", *words)
    assert workload.model.vocab_size == vocabulary
    texts = [text for text in workload.assumptions if "vocabulary" in text]
    assert all(text.startswith(assumption) for text in texts)
    assert bool(texts) == bool(assumption)


def test_lengths_of_the_data_replace_those_that_are_assumed():
    words = ["task=translate", "model=nano", "trainer.max_steps=10", "trainer.global_batch_size=4"]
    assumed = describe(*words)
    read = describe(*words, sizes=DataSizes(50, 30.2, 47, 12.5))
    assert "sequences of 256 tokens" in assumed.assumptions[-1]
    assert (read.tokens, read.longest, read.targets, read.model.vocab_size) == (30, 47, 12.5, 50)
    assert (read.total_tokens, read.assumptions) == (10 * 4 * 30, ())
