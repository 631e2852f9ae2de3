"""Settings of the tokenizers."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from gptexp.config.group import GroupConfig
from gptexp.config.registry import register
from gptexp.setting_field import setting


@dataclass
class TokenizerConfig(GroupConfig):
    """Settings of every tokenizer. `target` is called with (config, texts) and returns a Tokenizer."""

    config_group: ClassVar[str] = "tokenizer"
    passed: ClassVar[tuple[str, ...]] = ("config", "texts")
    kind: str = setting(MISSING, "name of the chosen tokenizer: tokenizer=NAME")


@register
@dataclass
class BpeConfig(TokenizerConfig):
    kind: str = "bpe"
    target = "gptexp.data.tokenizers:train_bpe"
    vocab_size: int = setting(4096, "size of the vocabulary, special tokens included", minimum=262)
    train_characters: int = setting(
        20_000_000, "train on at most this many characters of the training split", minimum=1
    )


@register
@dataclass
class CharConfig(TokenizerConfig):
    kind: str = "char"
    target = "gptexp.data.tokenizers:train_char"
    train_characters: int = setting(
        50_000_000, "read at most this many characters of the training split", minimum=1
    )


@register
@dataclass
class ByteConfig(TokenizerConfig):
    kind: str = "byte"
    target = "gptexp.data.tokenizers:build_byte"


@register
@dataclass
class HFTokenizerConfig(TokenizerConfig):
    kind: str = "hf"
    target = "gptexp.data.tokenizers:load_hugging_face"
    name: str = setting("gpt2", "hub name, or a folder with tokenizer files")
