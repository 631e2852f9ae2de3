"""Tokenizers of others: which tokens end an answer, and files that cannot be read."""

import json
import re

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models

from gptexp.config import schema
from gptexp.data import tokenizers
from gptexp.errors import UserError


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        (2, None, {2}),
        ([2, 3], None, {2, 3}),
        (2, [2, 3], {2, 3}),
        (3, None, {2, 3}),  # the tokenizer's own token ends an answer as well
        ([2, 3], 2, {2}),  # generation_config.json goes before config.json
        (None, None, {2}),
    ],
)
def test_the_tokens_that_end_an_answer_are_those_of_transformers(
    config, generation, expected, tmp_path
):
    names = ["<unk>", "<s>", "</s>", "<|turn|>"]
    vocabulary = {name: number for number, name in enumerate(names)}
    Backend(models.WordLevel(vocabulary, unk_token="<unk>")).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": config}))
    if generation:
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    tokenizer = tokenizers.Tokenizer.load(tmp_path / "tokenizer.json")
    assert (tokenizer.eos, tokenizer.eos_ids) == (2, expected)
    copy = tmp_path / "run" / "tokenizer.json"  # as a run keeps it
    copy.parent.mkdir()
    tokenizer.save(copy)
    loaded = tokenizers.Tokenizer.load(copy)
    assert loaded.eos_ids == expected
    assert loaded.fingerprint() == tokenizer.fingerprint()


def test_a_tokenizer_that_cannot_encode_every_text_is_refused_by_its_file(tmp_path):
    file = tmp_path / "tokenizer.json"
    Backend(models.WordPiece({"the": 0}, unk_token="[UNK]")).save(str(file))
    with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer file .*\[UNK\]"):
        tokenizers.Tokenizer.load(file)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no tokenizer.json and no other tokenizer file"),
        ({"tokenizer.model": b"\n\x0e"}, "tokenizer.model"),
        ({"tokenizer_config.json": b"{}"}, "tokenizer_config.json"),
        ({"tokenizer.json": b"{"}, "not a tokenizer file"),
    ],
)
def test_a_folder_whose_tokenizer_cannot_be_read_is_refused_by_its_files(files, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        tokenizers.build(schema.HFTokenizerConfig(name=str(tmp_path)), [])
    assert "network" not in str(caught.value)
