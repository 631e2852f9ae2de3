import pytest

from gptexp.config.schema import ByteConfig
from gptexp.data.tokenizers import build
from gptexp.generation.stream_text import find_stop, stream_text

BYTES = build(ByteConfig(), [])


def test_characters_of_several_tokens_come_whole():
    text = "naïve 日本 🙂!"
    shown = list(stream_text(BYTES.encode(text), BYTES.decode))
    assert "".join(shown) == text
    assert len(shown) == len(text)
    half = BYTES.encode("ab🙂")[:-1]
    assert list(stream_text(half, BYTES.decode))[:2] == ["a", "b"]
    assert "".join(stream_text(half, BYTES.decode)) == BYTES.decode(half)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("one. two", "one. two"), ("one END two", "one "), ("EN", "EN"), ("ENEND", "EN")],
)
def test_nothing_of_a_stop_string_is_shown(text, shown):
    so_far = ""
    for piece in stream_text(BYTES.encode(text), BYTES.decode, ["END", "STOP"]):
        so_far += piece
        assert shown.startswith(so_far)
    assert so_far == shown == text[: find_stop(text, ["END", "STOP"])]


def test_tokens_after_a_stop_string_are_not_asked_for():
    tokens = iter(BYTES.encode("a;bc"))
    assert "".join(stream_text(tokens, BYTES.decode, [";"])) == "a"
    assert BYTES.decode(list(tokens)) == "bc"
