import errno
import os

import pytest

from gptexp.errors import (
    Preempted,
    RunError,
    UserError,
    describe_error,
    exits_cleanly,
    explain_environment_error,
    nearest,
    unknown_value,
)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("max_stepz", " Did you mean 'trainer.max_steps'?"),
        ("trainer.max_step", " Did you mean 'trainer.max_steps'?"),
        ("zzz", ""),
    ],
)
def test_the_nearest_name_is_suggested(name, suggestion):
    assert nearest(name, ["trainer.max_steps", "seed"]) == suggestion


def test_an_unknown_value_is_answered_with_the_allowed_ones():
    message = str(unknown_value("model.norm", "rmss", ["rms", "layer"]))
    assert message == "model.norm=rmss: not known. Did you mean 'rms'? Allowed: layer, rms"


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("wrong"), 2), (RunError("failed"), 1), (Preempted("SIGTERM"), 75)],
)
def test_a_verb_ends_with_one_message_and_the_exit_code_of_its_error(error, code, capsys):
    @exits_cleanly
    def verb():
        raise error

    with pytest.raises(SystemExit) as ended:
        verb()
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith("gptexp: ")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG])
def test_a_failure_of_the_environment_is_one_message(number, capsys):
    @exits_cleanly
    def verb():
        raise OSError(number, os.strerror(number), "outputs/run/metrics.jsonl")

    with pytest.raises(SystemExit) as ended:
        verb()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("gptexp: outputs/run/metrics.jsonl: ")


def test_a_stopped_run_is_described_by_its_message():
    assert describe_error(Preempted("SIGTERM after step 3")) == "SIGTERM after step 3"
    assert describe_error(KeyError("a")) == "KeyError('a')"


def test_libraries_in_rust_report_a_full_disk_in_words():
    error = explain_environment_error(Exception("No space left on device (os error 28)"))
    assert "no space is left" in str(error)
    assert explain_environment_error(KeyError("a mistake of the program")) is None


def test_words_that_do_not_decode_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run", "name=gr\udcf6sse"])
    with pytest.raises(SystemExit) as ended:
        exits_cleanly(lambda: None)()
    assert ended.value.code == 2
    assert "'name=gr\\udcf6sse': has bytes that are not text" in capsys.readouterr().err


def test_a_message_names_signs_that_nobody_sees():
    assert str(UserError("a\u200b.txt: not found")) == "a<ZERO WIDTH SPACE (U+200B)>.txt: not found"
