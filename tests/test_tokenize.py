"""gptexp tokenize: processes that write one store, and what they refuse."""

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from conftest import text_of

from gptexp import tokenize
from gptexp.data.parts import units as units_module
from gptexp.data.parts.part_folder import PartFolder

WORDS = ["data=files", "data.path=docs", "tokenizer=byte", "--to", "store"]


@pytest.fixture(autouse=True)
def docs(own_folder):
    rng = random.Random(0)
    (own_folder / "docs").mkdir()
    for number in range(2):
        rows = [{"text": text_of(rng, 20)} for _ in range(40)]
        (own_folder / "docs" / f"{number}.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def run(monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["gptexp tokenize", *words])
        tokenize.main()

    return run


def test_a_folder_of_texts_becomes_a_store_that_a_run_reads(run, capsys, monkeypatch):
    monkeypatch.setattr(units_module, "UNIT_BYTES", (2000, 2000))
    run(*WORDS, "--part", "2/2", "--workers", "1")
    assert not Path("store/meta.json").exists()
    assert "parts are done; whoever writes the last one makes" in capsys.readouterr().err
    run(*WORDS, "--part", "1/2", "--workers", "1")
    printed = capsys.readouterr()
    assert printed.out == "store\n"
    assert "read        80 examples; used: train 65, val 7, test 8" in printed.err
    assert "tokens      train 6,500, val 700, test 800" in printed.err
    assert "gptexp run task=pretrain data=tokens data.path=store" in printed.err
    run(*WORDS)  # of a store that is complete
    assert capsys.readouterr().out == "store\n"


HELPER = """#!{python}
import sys, time
from gptexp import tokenize
from gptexp.data.parts import units
units.UNIT_BYTES = 2000, 2000
sys.argv = sys.argv[2:]
tokenize.main()
"""


def test_a_helper_writes_the_parts_of_a_share(run, own_folder, monkeypatch):
    helper = own_folder / "helper"
    helper.write_text(HELPER.format(python=sys.executable))
    helper.chmod(0o755)
    monkeypatch.setattr(units_module, "UNIT_BYTES", (2000, 2000))
    monkeypatch.setattr(tokenize, "available_cpus", lambda: 2)
    monkeypatch.setattr(sys, "executable", str(helper))
    start = tokenize._start_helpers
    monkeypatch.setattr(tokenize, "_start_helpers", lambda *args: start(*args[:2], 1))
    run(*WORDS)
    assert Path("store/meta.json").exists()


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        ('echo "gptexp: no" >&2; exit 2', 2, "gptexp: no\n"),
        (
            "kill -9 $$",
            1,
            "SIGKILL ended a process, for lack of memory perhaps: try fewer --workers",
        ),
    ],
)
def test_the_first_helper_that_fails_ends_the_command(
    end, code, message, run, own_folder, monkeypatch, capsys
):
    monkeypatch.setattr(units_module, "UNIT_BYTES", (2000, 2000))
    helper = own_folder / "helper"
    helper.write_text(f"#!/bin/sh\nif mkdir first 2> /dev/null; then {end}; fi\nexec sleep 60\n")
    helper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(helper))
    with pytest.raises(SystemExit) as ended:
        run(*WORDS, "--workers", "2")
    assert ended.value.code == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (WORDS[:-2], "--to is missing: name the folder of the store"),
        ([*WORDS, "--part", "3/2"], "--part 3/2: give K/N, with K from 1 to N"),
        ([*WORDS, "--workers", "0"], "--workers 0: must be at least 1"),
        ([*WORDS, "data.limit=5"], "data.limit=5: counts through all examples"),
        ([*WORDS, "data.split=tail"], "data.split=tail: needs the length of all texts"),
        (
            ["data=pydocs", "--to", "store"],
            "data=pydocs: gptexp tokenize reads data=files and data=hub",
        ),
        ([*WORDS, "data.path=missing"], "missing: no such file or folder"),
        ([*WORDS, "task=summarize"], "task=summarize: gptexp tokenize writes streams"),
        ([*WORDS, "--to", "docs/0.jsonl"], "--to docs/0.jsonl: is a file; give a folder"),
        ([*WORDS, "--to", "s3://a/b"], "--to s3://a/b: an address on the network. Give a folder"),
        ([*WORDS, "--to", "docs/store"], "and would be read as one. Give a folder beside it"),
        ([*WORDS, "--to", "/proc/store"], "--to /proc/store: cannot be made"),
    ],
)
def test_what_parts_cannot_do_is_refused(words, message, run, capsys):
    with pytest.raises(SystemExit) as ended:
        run(*words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_process_waits_for_a_part_that_another_one_has(run, monkeypatch, capsys):
    monkeypatch.setattr(units_module, "UNIT_BYTES", (2000, 2000))
    claim, calls = PartFolder._claim, []

    def claim_later(self, number):
        calls.append(number)
        return claim(self, number) if len(calls) > 3 else nullcontext(False)

    monkeypatch.setattr(PartFolder, "_claim", claim_later)
    run(*WORDS, "--workers", "1")
    assert calls[:4] == [0, 1, 2, 3]
    assert capsys.readouterr().out == "store\n"


def test_a_helper_ends_with_its_parent():
    """The parent that the helper is told is another process than its own: that one is gone from the beginning."""
    code = "from gptexp.tokenize import _end_with_parent\nimport time\nwith _end_with_parent(): time.sleep(20)"
    environment = {**os.environ, tokenize.HELPER: "1"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, timeout=20)
    assert ended.returncode == -signal.SIGTERM
