import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from gptexp.config.schema import ByteConfig, CharConfig
from gptexp.data.tokenizers import Tokenizer, build
from gptexp.generation.stream_text import decode_after, find_stop, stream_text

BYTES = build(ByteConfig(), [])
TEXT = "the mill of Velden."


def metaspace() -> Tokenizer:
    """As SentencePiece: the first word of a text loses its space when it is decoded."""
    backend = Backend(models.BPE(unk_token="?"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["?"], show_progress=False)
    backend.train_from_iterator([TEXT], trainer)
    return Tokenizer(backend)


def word_piece() -> Tokenizer:
    """As BERT: spaces stand between tokens, and no token has one."""
    backend = Backend(
        models.WordPiece(
            {"the": 0, "mill": 1, "of": 2, "Vel": 3, "##den": 4, ".": 5, "[UNK]": 6},
            unk_token="[UNK]",
        )
    )
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return Tokenizer(backend)


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


@pytest.mark.parametrize("make", [metaspace, word_piece, ByteConfig, CharConfig])
def test_a_continuation_is_the_text_of_all_tokens_behind_that_of_the_prompt(make):
    tokenizer = make() if make in (metaspace, word_piece) else build(make(), [TEXT])
    prompt, answer = tokenizer.encode("the mill"), tokenizer.encode("the mill of Velden.")
    assert answer[: len(prompt)] == prompt
    decode = decode_after(tokenizer.decode, prompt)
    assert "".join(stream_text(answer[len(prompt) :], decode)) == " of Velden."
    assert "".join(stream_text(answer[len(prompt) :], decode, [" of"])) == ""


def test_an_answer_can_complete_the_last_character_of_its_prompt():
    tokens = BYTES.encode("café!")
    assert decode_after(BYTES.decode, tokens[:4])(tokens[4:]) == "é!"
