import pytest

from gptexp import extras
from gptexp.config import compose
from gptexp.errors import UserError


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["task=caption"], "vision"),
        (["task=caption", "data=images", "data.path=."], "vision"),
        (["task=speak"], "speech"),
        (["task=speak", "data=recordings", "data.path=."], "speech"),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(words, extra, monkeypatch):
    compose.compose_config(words)
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "PIL" else True)
    with pytest.raises(
        UserError, match=rf"PIL: not installed\. Type: pip install 'gptexp\[{extra}]'"
    ):
        compose.compose_config(words)
