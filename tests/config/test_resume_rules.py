"""A command that continues a run or starts from its weights is compared with that run."""

import copy

import pytest
from conftest import TINY

from gptexp.config import compose
from gptexp.config.resume_rules import check_init, check_resume, with_tokenizer_of
from gptexp.errors import UserError

WORDS = [
    "task=summarize",
    "data=files",
    "data.path=/data/a.jsonl",
    "optim=adamw",
    "trainer.max_steps=100",
]


@pytest.fixture(scope="module")
def earlier():
    return compose.compose_config([*TINY, *WORDS])


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (["trainer.max_steps=200"], "trainer.max_steps=200 (100 there)"),
        (
            ["trainer.global_batch_size=4"],
            "trainer.global_batch_size=4 (16 there): the order of sequences goes on where that run stopped",
        ),
        (["optim.lr=0.5"], "optim.lr=0.5 (0.001 there)"),
        (["schedule=cosine"], "schedule=cosine (linear there)"),
        (["schedule.warmup_steps=3"], "schedule.warmup_steps=3 (10 there)"),
        (["model.dropout=0.2"], "model.dropout=0.2 (0.0 there)"),
        (["data.limit=5"], "data.limit=5 (null there)"),
        (["data.fields={source:a}"], "data.fields={source:a} ({} there)"),
        (["trainer.skip_steps=[60,61]"], "trainer.skip_steps=[60,61] ([] there)"),
        (
            ["trainer.skip_steps=[6,60]"],
            "trainer.skip_steps=[6,60] ([] there): too late for 6, which that run has done",
        ),
        (["trainer.precision=bf16"], "trainer.precision=bf16 (auto there)"),
        (["data=pydocs"], "data=pydocs (files there)"),
    ],
)
def test_a_setting_that_may_change_is_described_in_one_line(words, change, tiny, earlier):
    base = [word for word in WORDS if word != "data.path=/data/a.jsonl" or words != ["data=pydocs"]]
    assert check_resume(tiny(*base, *words), earlier, "outputs/x", 60) == [change]


@pytest.mark.parametrize("word", ["trainer.devices=2", "logger=csv", "name=again", "tags=[b]"])
def test_a_setting_without_effect_on_the_result_is_not_mentioned(word, tiny, earlier):
    assert check_resume(tiny(*WORDS, word), earlier, "outputs/x", 60) == []


@pytest.mark.parametrize(
    ("word", "difference", "same"),
    [
        ("seed=7", "seed=7 (1 there)", "seed=1"),
        ("model.d_ff=64", "model.d_ff=64 (96 there)", "model.d_ff=96"),
        ("model.qk_norm=false", "model.qk_norm=false (true there)", "model.qk_norm=true"),
        ("tokenizer.vocab_size=300", "tokenizer.vocab_size=300 (4096 there)", "vocab_size=4096"),
        ("tokenizer=byte", "tokenizer=byte (bpe there)", "tokenizer=bpe"),
        ("optim=muon", "optim=muon (adamw there)", "optim=adamw"),
        ("task=translate", "task=translate (summarize there)", "task=summarize"),
    ],
)
def test_a_setting_that_cannot_change_is_refused_with_the_way_out(
    word, difference, same, tiny, earlier
):
    config = tiny(*WORDS, "tokenizer=bpe", word)
    with pytest.raises(UserError) as refusal:
        check_resume(config, earlier, "outputs/x", 60)
    assert f"resume=outputs/x: that run cannot continue with {difference}" in str(refusal.value)
    assert f"{same} as there" in str(refusal.value)
    assert "init=outputs/x instead of resume=" in str(refusal.value)


@pytest.mark.parametrize(
    ("word", "same"),
    [
        ("task.packing=best_fit", r"task\.packing=stream"),
        ("data.path=s3://bucket/store", r"data\.shuffle_block=0"),
    ],
)
def test_packing_and_order_cannot_change(word, same, tiny):
    words = ["task=pretrain", "data=tokens", "data.path=store", "trainer.max_steps=100"]
    with pytest.raises(UserError, match=f"Give {same} as there"):
        check_resume(tiny(*words, word), tiny(*words), "outputs/x", 60)


@pytest.mark.parametrize("steps_done", [100, 101, 4000])
def test_a_run_without_a_step_left_is_refused(steps_done, tiny, earlier):
    with pytest.raises(UserError) as refusal:
        check_resume(tiny(*WORDS, "seed=2"), earlier, "outputs/x", steps_done)
    assert f"trainer.max_steps=100: outputs/x has done {steps_done} steps already" in str(
        refusal.value
    )
    assert f"for example trainer.max_steps={2 * steps_done}" in str(refusal.value)
    assert "seed=2 (1 there)" in str(refusal.value)


def test_a_tokenizer_that_init_replaces_is_named(tiny, earlier):
    config = tiny(*WORDS, "tokenizer.vocab_size=300", "init=outputs/x")
    assert check_init(config, earlier) == [
        "init=outputs/x brings its own tokenizer: tokenizer.vocab_size=300 has no effect"
    ]
    assert check_init(config, None)
    assert check_init(config, config) == []
    [line] = check_init(tiny(*WORDS, "tokenizer=byte", "init=outputs/x"), config)
    assert line == "init=outputs/x brings its own tokenizer: tokenizer=byte has no effect"
    [line] = check_init(tiny(*WORDS, "tokenizer=char", "init=outputs/x"), config)
    assert line == "init=outputs/x brings its own tokenizer: tokenizer=char has no effect"


def test_the_tokenizer_that_a_run_takes_over_is_recorded(tiny):
    byte = tiny(*WORDS, "tokenizer=byte")
    from_weights = with_tokenizer_of(tiny(*WORDS, "tokenizer=char", "init=outputs/x"), byte)
    assert from_weights.tokenizer == byte.tokenizer
    again = with_tokenizer_of(tiny(*WORDS, "tokenizer=bpe", "resume=outputs/y"), from_weights)
    assert again.tokenizer == byte.tokenizer
    assert (
        with_tokenizer_of(tiny(*WORDS, "tokenizer=char", "resume=outputs/y"), byte).tokenizer.kind
        == "char"
    )


@pytest.mark.parametrize(
    ("words", "is_named"),
    [
        ([], False),
        (["data.test_fraction=0.3"], True),
        (["data.test_fraction=0"], False),
        (["data.split=tail"], True),
        (["data.path=b.jsonl", "data.test_fraction=0.3"], False),
    ],
)
def test_texts_that_init_may_have_trained_on_are_named(words, is_named, tiny, earlier):
    lines = check_init(tiny(*WORDS, *words, "init=outputs/x"), copy.deepcopy(earlier))
    assert ["It may have seen texts" in line for line in lines] == [True] * is_named


@pytest.mark.parametrize(
    ("words", "difference"),
    [
        (["model.d_ff=64"], "has model.d_ff=96, not 64. Settings that fit it: model.d_ff=96"),
        (["model.context=64", "model.dropout=0.1", "model.arch=prefix"], None),
        (["model.arch=encoder_decoder"], "has model.arch=decoder, not encoder_decoder"),
    ],
)
def test_weights_of_another_model_are_refused_at_once(words, difference, tiny, earlier):
    config = tiny(*WORDS, *words, "init=outputs/x")
    if difference is None:
        assert check_init(config, earlier) == []
        return
    with pytest.raises(UserError) as refusal:
        check_init(config, earlier)
    assert f"init=outputs/x: {difference}" in str(refusal.value)
