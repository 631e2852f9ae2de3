import json
import os
import pty
import subprocess
import sys
import time

import pytest

from gptexp import watch


@pytest.fixture
def one_run(own_folder):
    path = own_folder / "outputs" / "translate-nano-1"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("trainer: {max_steps: 10}\n")
    (path / "metrics.jsonl").write_text(json.dumps({"step": 5, "train/loss": 2.5}) + "\n")
    return path


@pytest.mark.usefixtures("one_run")
def test_without_a_terminal_the_view_is_printed_once(verb):
    text = verb(watch)
    assert "translate-nano-1 killed" in text
    assert "\x1b" not in text


@pytest.mark.usefixtures("one_run")
def test_json_has_the_state_of_each_run(verb):
    [run] = json.loads(verb(watch, "--json"))["runs"]
    assert (run["state"], run["step"], run["max_steps"], run["train_loss"]) == (
        "killed",
        5,
        10,
        2.5,
    )


def test_mistakes_are_answered(verb):
    code, text = verb(watch)
    assert code == 2
    assert "--outputs outputs: there is no such folder" in text
    assert verb(watch, "--every", "0")[0] == 2
    assert verb(watch, "nothing-of-this-name")[0] == 2


@pytest.mark.usefixtures("one_run")
def test_q_ends_the_view_and_leaves_the_terminal_as_it_was():
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gptexp.watch", "--every", "0.2"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )
    os.close(follower)
    shown, deadline = b"", time.monotonic() + 120
    while b"translate-nano-1" not in shown and time.monotonic() < deadline:
        shown += os.read(leader, 4096)
    os.write(leader, b"q")
    try:
        while block := os.read(leader, 4096):
            shown += block
    except OSError:  # the terminal is closed
        pass
    os.close(leader)
    assert process.wait(60) == 0
    assert b"\x1b[?1049h" in shown  # the alternate screen
    assert b"\x1b[?1049l" in shown
