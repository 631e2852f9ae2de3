import pytest

from gptexp.config.schema import ByteConfig
from gptexp.data.tokenizers import build
from gptexp.generation.stream_text import find_stop, stream_text

BYTES = build(ByteConfig(), [])


def test_characters_of_several_tokens_are_yielded_at_once():
    text = "naïve 日本 🙂!"
    pieces = list(stream_text(BYTES.encode(text), BYTES.decode))
    assert "".join(pieces) == text
    assert len(pieces) == len(text)
    partial = BYTES.encode("ab🙂")[:-1]
    assert list(stream_text(partial, BYTES.decode))[:2] == ["a", "b"]
    assert "".join(stream_text(partial, BYTES.decode)) == BYTES.decode(partial)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [("one. two", "one. two"), ("one END two", "one "), ("EN", "EN"), ("ENEND", "EN")],
)
def test_no_part_of_a_stop_string_is_yielded(text, pieces):
    so_far = ""
    for piece in stream_text(BYTES.encode(text), BYTES.decode, ["END", "STOP"]):
        so_far += piece
        assert pieces.startswith(so_far)
    assert so_far == pieces == text[: find_stop(text, ["END", "STOP"])]


def test_tokens_after_a_stop_string_are_not_consumed():
    tokens = iter(BYTES.encode("a;bc"))
    assert "".join(stream_text(tokens, BYTES.decode, [";"])) == "a"
    assert BYTES.decode(list(tokens)) == "bc"
