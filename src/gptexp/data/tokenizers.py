"""Text to token numbers and back: four kinds, one object, one file format (Hugging Face's tokenizer.json)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from gptexp.config import schema
from gptexp.config.errors import UserError
from gptexp.config.network import hub_is_reachable

EOS, PAD, SEP, MASK, UNK = "<|endoftext|>", "<|pad|>", "<|sep|>", "<|mask|>", "<|unk|>"
SPECIAL = (EOS, PAD, SEP, MASK)


class Tokenizer:
    """A tokenizers.Tokenizer that has an end-of-text, a padding, a separator and a mask token."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.no_padding()
        backend.no_truncation()
        missing = [token for token in SPECIAL if backend.token_to_id(token) is None]
        if missing:
            backend.add_special_tokens(missing)
        backend.encode_special_tokens = True  # "<|sep|>" in somebody's text is text
        self.backend = backend
        numbers = backend.get_vocab(with_added_tokens=True)
        self.unknown = backend.token_to_id(getattr(backend.model, "unk_token", None) or UNK)
        self.eos, self.pad, self.sep, self.mask = (numbers[token] for token in SPECIAL)

    @property
    def vocab_size(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def unknown_bytes(self, text: str, tokens: list[int]) -> int:
        """UTF-8 bytes of `text` that its tokens do not tell, being unknown to the vocabulary."""
        if self.unknown is None or self.unknown not in tokens:
            return 0
        encoding = self.backend.encode(text, add_special_tokens=False)
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        return sum(len(text[start:end].encode()) for token, (start, end) in spans if token == self.unknown)

    def decode(self, tokens: Iterable[int]) -> str:
        return self.backend.decode(list(tokens), skip_special_tokens=True)

    def fingerprint(self) -> str:
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        self.backend.save(str(path))

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Raises UserError where the file is missing or not of this format."""
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises bare Exception
            raise UserError(f"{path}: not a tokenizer file ({error})") from error


def build(config: schema.Tokenizer, texts: Iterable[str]) -> Tokenizer:
    """Train or load the tokenizer that the config asks for; `texts` is the training split.

    Raises:
        UserError: a named tokenizer cannot be found.
    """
    match config:
        case schema.Bpe():
            return _bpe(config.vocab_size, _first(texts, config.train_characters))
        case schema.Char():
            return _char(_first(texts, config.train_characters))
        case schema.Byte():
            return _bpe(256 + len(SPECIAL), [])
        case schema.HuggingFace():
            return _hugging_face(config.name)
    raise UserError(f"tokenizer.kind={config.kind}: not known. Allowed: bpe, char, byte, hf")


def _bpe(vocab_size: int, texts: Iterable[str]) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend)


def _char(texts: Iterable[str]) -> Tokenizer:
    characters = sorted({character for text in texts for character in text})
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, UNK, *characters))}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([*SPECIAL, UNK])
    return Tokenizer(backend)


def _hugging_face(name: str) -> Tokenizer:
    folder = Path(name).expanduser()
    if (folder / "tokenizer.json").is_file():
        return Tokenizer.load(folder / "tokenizer.json")
    from transformers import AutoTokenizer

    local = folder.is_dir() or not hub_is_reachable()  # without a network the library would retry for minutes
    try:
        loaded = AutoTokenizer.from_pretrained(str(folder) if folder.is_dir() else name, local_files_only=local)
    except (OSError, ValueError) as error:
        reason = "no network, and not in the local cache" if local else str(error).strip().splitlines()[0]
        raise UserError(
            f"tokenizer.name={name}: neither a folder with tokenizer files nor a name that the hub gives ({reason})"
        ) from error
    return Tokenizer(loaded.backend_tokenizer)


def _first(texts: Iterable[str], characters: int) -> Iterable[str]:
    for text in texts:
        yield text[:characters]
        characters -= len(text)
        if characters <= 0:
            return
