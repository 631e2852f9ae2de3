import json
import subprocess
import sys

import pytest

from gptexp import inspect
from gptexp.config import compose
from gptexp.tasks.prepare import prepare


@pytest.fixture
def run_inspect(monkeypatch, capsys, pairs_file):
    def call(*words):
        settings = ["task=translate", "model=nano", "data=files", f"data.path={pairs_file}"]
        monkeypatch.setattr("sys.argv", ["gptexp inspect", *settings, *words])
        code = 0
        try:
            inspect.main()
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return call


def test_the_account_and_examples_are_printed_without_a_run(run_inspect, own_folder):
    code, out, error = run_inspect("--examples", "1")
    assert (code, error) == (0, "")
    assert out.startswith("data account:\n  read        300 examples; used: train")
    for split in ("train", "val", "test"):
        assert f"\n{split} 0: " in out
    assert "\033" not in out
    assert not (own_folder / "outputs").exists()


def test_it_shows_the_tokens_that_a_run_is_trained_on(run_inspect, pairs_file):
    code, out, _ = run_inspect("--json", "--split", "val", "--examples", "3")
    values = json.loads(out)
    words = ["task=translate", "model=nano", "data=files", f"data.path={pairs_file}"]
    store = prepare(compose.compose_config(words)).store
    assert values["account"] == store.meta["account"]
    first, *others = values["examples"]
    assert (code, len(others)) == (0, 2)
    assert first["input"].removesuffix("<|sep|>") == next(store.examples("val"))["source"]
    assert (
        sum(token["target"] is not None for token in first["tokens"])
        == (store.index("val")[0]["targets"])
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.path=nothing.csv"], "nothing.csv: no such file"),
        (["latest"], "latest: is a run. inspect shows data"),
        (["--examples", "-1"], "--examples -1: must be at least 0"),
        (["--split", "unseen"], "the data has no unseen split; it has train, val, test"),
        (["--spilt=val"], "Did you mean --split?"),
        (["init=nothing"], "nothing"),
        (["task.max_target_tokens=300"], "task.max_target_tokens=300"),
    ],
)
def test_a_mistake_is_one_line(run_inspect, words, message):
    code, out, error = run_inspect(*words)
    assert (code, out) == (2, "")
    assert message in error
    assert "Traceback" not in error


def test_help_imports_no_torch():
    code = "import sys; from gptexp import inspect; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
