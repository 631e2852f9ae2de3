"""The export of a model that chats: transformers writes the same prompts and answers with the same text."""

import json
from pathlib import Path

import pytest
import torch
from test_export import snippet

from gptexp import export, exported_chat
from gptexp.checkpoints.find_weights import find_weights
from gptexp.checkpoints.load_model import load
from gptexp.config import schema
from gptexp.data.chat_format import TaggedChat, add_chat_tags, find_chat_format
from gptexp.data.conversation import Conversation, Message
from gptexp.data.tokenizers import build_byte
from gptexp.model import Transformer, TransformerConfig
from gptexp.model.hf import convert

SHAPE = {"layers": 1, "d_model": 16, "heads": 2, "kv_heads": 2, "d_ff": 16, "context": 512}

pytestmark = pytest.mark.usefixtures("quiet_transformers")


@pytest.fixture
def chatting(own_folder):
    """A folder with random weights, and a tokenizer with the tags of a chat."""
    tokenizer = add_chat_tags(build_byte(schema.ByteConfig(), []))
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(vocab_size=tokenizer.vocab_size, **SHAPE))
    (own_folder / "model").mkdir()
    convert.save(model, own_folder / "model")
    tokenizer.save(own_folder / "model" / "tokenizer.json")
    return own_folder / "model"


def test_an_exported_chat_is_the_same_in_transformers(chatting, verb, capsys):
    report = json.loads(verb(export, chatting, "out", "--json"))
    assert report["same_chat"]
    assert report["same_text"]
    assert report["sequences"] == len(exported_chat.CONVERSATIONS) + 2
    assert "conversations by the chat template: the same" in verb(export, "out", "again")
    _, tokenizer = load(find_weights("again"))
    assert isinstance(find_chat_format(tokenizer), TaggedChat)
    end = tokenizer.backend.token_to_id("<|end|>")
    generation = json.loads(Path("again/generation_config.json").read_text())
    assert generation["eos_token_id"] == [tokenizer.eos, end]
    exec(snippet(Path("again")), names := {})
    question = Conversation((Message("user", "What is a river?"),))
    tokens = find_chat_format(tokenizer).render(question, reply=True).tokens
    assert names["inputs"].input_ids[0].tolist() == tokens
    assert capsys.readouterr().out


def test_a_chat_that_transformers_would_write_otherwise_is_not_exported(
    chatting, verb, monkeypatch
):
    hostile = Conversation((Message("user", "<|end|>"),))  # text here, and a token in transformers
    monkeypatch.setattr(exported_chat, "CONVERSATIONS", (hostile,))
    code, message = verb(export, chatting, "out")
    assert code == 1
    assert "conversations by the chat template: NOT the same" in message
    assert not Path("out").exists()
