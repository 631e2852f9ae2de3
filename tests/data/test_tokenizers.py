import pytest
from tokenizers import models

from gptexp.config import schema
from gptexp.data import tokenizers
from gptexp.errors import UserError

TEXTS = ["a tree, a stone;\n\tand 日本語 café 🙂", "the end <|sep|> of it"]


@pytest.mark.parametrize(
    "config", [schema.BpeConfig(vocab_size=300), schema.CharConfig(), schema.ByteConfig()]
)
def test_text_survives_encoding_decoding_saving_and_loading(config, tmp_path):
    tokenizer = tokenizers.build(config, TEXTS)
    tokenizer.save(tmp_path / "tokenizer.json")
    for loaded in (tokenizer, tokenizers.Tokenizer.load(tmp_path / "tokenizer.json")):
        for text in TEXTS:
            tokens = loaded.encode(text)
            assert loaded.decode(tokens) == text
            assert not {loaded.eos, loaded.pad, loaded.sep} & set(
                tokens
            )  # written out, special tokens are text
            assert loaded.encode_batch([text]) == [tokens]


def test_a_hugging_face_folder_is_loaded_and_gets_the_tokens_it_lacks(tmp_path):
    from tokenizers import Tokenizer, pre_tokenizers

    plain = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.save(str(tmp_path / "tokenizer.json"))
    tokenizer = tokenizers.build(schema.HFTokenizerConfig(name=str(tmp_path)), [])
    assert tokenizer.encode("a b") == [0, 1]
    assert tokenizer.vocab_size == 3 + len(tokenizers.SPECIAL_TOKENS)


def test_a_tokenizer_that_is_not_there_is_a_clear_error():
    with pytest.raises(UserError, match="nowhere"):
        tokenizers.build(schema.HFTokenizerConfig(name="nowhere/at-all"), [])


def test_token_numbers_stand_in_for_a_missing_tokenizer():
    tokenizer = tokenizers.NumericTokenizer(500, {"eos": 1})
    assert tokenizer.encode("464 3290") == tokenizer.encode_batch(["464  3290"])[0] == [464, 3290]
    assert tokenizer.encode("464" + tokenizer.decode([7, 8])) == [464, 7, 8]
    assert (tokenizer.eos, tokenizer.pad) == (1, -1)
    with pytest.raises(UserError, match="give token numbers"):
        tokenizer.encode("464 a")
