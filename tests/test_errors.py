import pytest

from gptexp.errors import Preempted, RunError, UserError, exits_cleanly, nearest, unknown_value


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
