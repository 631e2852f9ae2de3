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
