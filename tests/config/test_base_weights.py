import pytest

from gptexp.config import compose


@pytest.mark.parametrize(
    ("override", "init"),
    [
        ("model=small", "base"),
        ("model.context=128", "base"),
        ("model=nano", None),
        ("model.experts=4", None),
        ("model.window=64", None),
        ("model.vocab_size=8192", None),
        ("tokenizer=char", None),
    ],
)
def test_a_run_starts_from_base_only_where_its_weights_fit(override, init):
    assert compose.compose_config(["task=summarize", override]).init == init


@pytest.mark.parametrize(
    ("fraction", "init"), [("data.test_fraction=0.08", "base"), ("data.test_fraction=0.09", None)]
)
def test_a_run_is_not_tested_on_debian_packages_that_base_was_trained_on(fraction, init, capsys):
    words = ["task=summarize", "data=debian", fraction]
    assert compose.compose_config(words).init == init
    assert ("base was trained on texts that" in capsys.readouterr().err) == (init is None)
