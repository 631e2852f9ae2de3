import json

import pytest

from gptexp.config import compose
from gptexp.data.corpora.debian import Debian
from gptexp.data.corpora.pydocs import Pydocs
from gptexp.errors import UserError


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
    ("fraction", "init"),
    [
        ("data.test_fraction=0.08", "base"),
        ("data.test_fraction=0.09", None),
        ("data.split=exact", None),
    ],
)
def test_a_run_is_not_tested_on_debian_packages_that_base_was_trained_on(fraction, init, capsys):
    words = ["task=summarize", "data=debian", fraction]
    assert compose.compose_config(words).init == init
    assert ("base was trained on texts that" in capsys.readouterr().err) == (init is None)


@pytest.mark.parametrize(
    ("corpus", "settings", "leaking"),
    [
        ("pydocs", "data.test_fraction=0.05", None),
        ("pydocs", "data.test_fraction=0.5", "data=pydocs data.val_fraction=0.05, data.test"),
        ("pydocs", "data.split=exact", "data=pydocs data.split=exact"),
        ("pydocs", "data.unseen=[tqdm]", r"data=pydocs data.unseen=\[tqdm\]"),
        ("debian", "data.split=exact", "data=debian data.split=exact"),
    ],
)
def test_stored_tokens_start_from_base_only_where_they_hold_out_what_it_was_not_trained_on(
    corpus, settings, leaking, tmp_path, capsys
):
    (tmp_path / "archive_i18n_Translation-en").write_text("")
    words = ["task=summarize", f"data={corpus}", settings, "init=scratch"]
    words += [f"data.path={tmp_path}"] if corpus == "debian" else ["data.packages=[tqdm]"]
    data = compose.compose_config(words).data
    source = {"pydocs": Pydocs, "debian": Debian}[corpus](data, ("source", "target"), tmp_path)
    split = [data.split, data.val_fraction, data.test_fraction, data.limit]
    meta = {"corpus": source.describe(), "split": split}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    words = ["task=summarize", "data=tokens", f"data.path={tmp_path}"]
    assert compose.compose_config(words).init is None
    assert "a run with data=tokens starts from base only with" in capsys.readouterr().err
    if leaking is None:
        assert compose.compose_config([*words, "init=base"]).init == "base"
    else:
        with pytest.raises(UserError, match=f"data.path=.*, made with {leaking}"):
            compose.compose_config([*words, "init=base"])
