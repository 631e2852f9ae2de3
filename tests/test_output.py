import os
import subprocess
import sys

import pytest

from gptexp.output import UnfailingOutput, unfailing_output


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    with open(writer, "w", encoding="ascii") as stream:
        yield reader, stream


def test_characters_that_the_encoding_lacks_are_escaped(pipe):
    reader, stream = pipe
    with UnfailingOutput(stream) as output:
        print("größer → 日本", file=output)
    assert os.read(reader, 100) == rb"gr\xf6\xdfer \u2192 \u65e5\u672c" + b"\n"


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_reader_that_is_gone_is_no_error(end, pipe):
    reader, stream = pipe
    os.close(reader)
    output = UnfailingOutput(stream)
    for _ in range(3):
        print("x" * 100_000, end=end, file=output, flush=True)
    output.close()


def test_a_full_disk_is_no_error_and_streams_come_back(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with unfailing_output("stdout"):
            print("a" * 100_000, flush=True)
        assert sys.stdout is full


def test_streams_that_are_no_files_stay(capsys):
    stream = sys.stdout
    with unfailing_output("stdout", "stderr"):
        assert sys.stdout is stream
        print("x")
    assert capsys.readouterr().out == "x\n"


VERB = """
import os, sys
from gptexp.errors import exits_cleanly
@exits_cleanly
def verb():
    print("answer →", repr(sys.stdin.read()))
    with open("file", "w") as file:
        file.write(str(file.fileno()))
verb()
"""


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "</dev/null >&-", "<&- 2>&- >/dev/null"])
def test_closed_streams_are_no_error_and_their_descriptors_are_not_used(closed, own_folder):
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, VERB])
    assert done.returncode == 0
    assert int((own_folder / "file").read_text()) > 2


def test_a_verb_answers_on_an_ascii_terminal_and_to_a_full_disk():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", VERB]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, env=environment, capture_output=True)
    assert done.stdout == rb"answer \u2192 ''" + b"\n"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"gptexp: the disk: no space is left")
