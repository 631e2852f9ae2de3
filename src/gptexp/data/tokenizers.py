"""Text to token numbers and back: four kinds, one object, one file format (Hugging Face's tokenizer.json)."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from gptexp.config import schema
from gptexp.errors import UserError
from gptexp.network import hub_is_reachable

EOS, PAD, SEP, MASK, UNK = "<|endoftext|>", "<|pad|>", "<|sep|>", "<|mask|>", "<|unk|>"
SPECIAL = (EOS, PAD, SEP, MASK)


class Tokenizer:
    """A tokenizers.Tokenizer that has an end-of-text, a padding, a separator and a mask token.

    Those that are missing are added. What its template puts around a text is left out; `opening` is what it puts
    before, Llama's <|begin_of_text|>. `end` is the end-of-text token of one that others have made.
    """

    def __init__(self, backend: tokenizers.Tokenizer, end: str = EOS) -> None:
        backend.no_padding()
        backend.no_truncation()
        special = (end, *SPECIAL[1:])
        missing = [token for token in special if backend.token_to_id(token) is None]
        if missing:
            backend.add_special_tokens(missing)
        numbers = backend.get_vocab(with_added_tokens=True)
        self.eos, self.pad, self.sep, self.mask = (numbers[token] for token in special)
        self.opening = [token for token in backend.encode("").ids if token != self.eos]
        backend.post_processor = None
        backend.encode_special_tokens = True  # "<|sep|>" in somebody's text is text
        self.backend, self.end = backend, end
        self.unknown = backend.token_to_id(getattr(backend.model, "unk_token", None) or UNK)
        self.vocab_size = max(numbers.values()) + 1

    def encode(self, text: str) -> list[int]:
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [
            encoding.ids
            for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False)
        ]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens, and for each the characters of `text` that it stands for."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def unknown_bytes(self, text: str, tokens: list[int]) -> int:
        """UTF-8 bytes of `text` that its tokens do not tell, being unknown to the vocabulary."""
        if self.unknown is None or self.unknown not in tokens:
            return 0
        encoding = self.backend.encode(text, add_special_tokens=False)
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        return sum(
            len(text[start:end].encode()) for token, (start, end) in spans if token == self.unknown
        )

    def decode(self, tokens: Iterable[int]) -> str:
        return self.backend.decode(list(tokens), skip_special_tokens=True)

    def fingerprint(self) -> str:
        end = self.end if self.end != EOS else ""
        return hashlib.sha256(f"{self.backend.to_str()}{end}".encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """tokenizer.json, and beside it the tokenizer_config.json that says what its special tokens are for."""
        self.backend.save(str(path))
        names = ("eos_token", "pad_token", "sep_token", "mask_token")
        said = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **dict(zip(names, (self.end, *SPECIAL[1:]), strict=True)),
        }
        path.with_name("tokenizer_config.json").write_text(json.dumps(said, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """The tokenizer.json of ours or of others, or what transformers makes of the older files beside its place.

        Raises:
            UserError: it is missing or not of this format.
        """
        if not path.is_file() and (path.parent / "vocab.json").is_file():
            return _of_transformers(str(path.parent), local=True)
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
            return cls(backend, _end_of_text(path.parent, backend))
        except Exception as error:  # the library raises bare Exception
            raise UserError(f"{path}: not a tokenizer file ({error})") from error


def build(config: schema.TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """Train or load the tokenizer that the config asks for; `texts` is the training split.

    Raises:
        UserError: a named tokenizer cannot be found.
    """
    match config:
        case schema.BpeConfig():
            return _bpe(config.vocab_size, _first(texts, config.train_characters))
        case schema.CharConfig():
            return _char(_first(texts, config.train_characters))
        case schema.ByteConfig():
            return _bpe(256 + len(SPECIAL), [])
        case schema.HFTokenizerConfig():
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
    if folder.is_dir():
        return _of_transformers(str(folder), local=True)
    return _of_transformers(
        name, local=not hub_is_reachable()
    )  # without a network it would retry for minutes


def _of_transformers(name: str, local: bool) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(name, local_files_only=local)
    except (OSError, ValueError) as error:
        reason = (
            "no network, and not in the local cache"
            if local
            else str(error).strip().splitlines()[0]
        )
        raise UserError(
            f"tokenizer.name={name}: neither a folder with tokenizer files nor a name that the hub gives ({reason})"
        ) from error
    return Tokenizer(loaded.backend_tokenizer, loaded.eos_token or EOS)


def _end_of_text(folder: Path, backend: tokenizers.Tokenizer) -> str:
    """The end-of-text token that the files beside a tokenizer.json name."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        found = _json(folder / name).get("eos_token")
        token = found.get("content") if isinstance(found, dict) else found
        if token:
            return token
    number = _json(folder / "config.json").get("eos_token_id")
    number = number[0] if isinstance(number, list) else number
    return (backend.id_to_token(number) if number is not None else None) or EOS


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf8")) if path.is_file() else {}


def _first(texts: Iterable[str], characters: int) -> Iterable[str]:
    for text in texts:
        yield text[:characters]
        characters -= len(text)
        if characters <= 0:
            return
