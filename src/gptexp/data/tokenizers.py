"""Tokenizers: text to token numbers and back. One class, four ways to build it, one file format."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from gptexp.config import schema, targets
from gptexp.data.tokenizer_files import (
    CHAT_TEMPLATE_FILE,
    PublishedTokenizer,
    convert_by_transformers,
    load_from_hub,
    read_chat_template,
    read_eos_ids,
    read_eos_token,
    read_named_token,
)
from gptexp.errors import UserError
from gptexp.files import short_hash

EOS, PAD, SEP, MASK, UNK = "<|endoftext|>", "<|pad|>", "<|sep|>", "<|mask|>", "<|unk|>"
SPECIAL_TOKENS = (EOS, PAD, SEP, MASK)
SPLIT_CHARACTERS = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
Span = tuple[int, int]  # of characters in a text


class Tokenizer:
    """A tokenizers.Tokenizer with an end-of-text, a padding, a separator and a mask token; missing ones are added.

    The numbers of the added ones are `added_ids`. Its post-processor is removed: `encode` adds no special tokens. The
    tokens that the post-processor puts before a text, such as Llama's <|begin_of_text|>, are kept in `bos_ids`.

    Args:
        eos_token: ends every document and every answer of the training data.
        eos_ids: further tokens at which generation ends, such as the end of a turn.
        bos_token: the text of the token that begins a text, which chat templates may write.
        chat_template: in Jinja; it is kept beside tokenizer.json.
    """

    added_ids: frozenset[int] = frozenset()

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        eos_token: str = EOS,
        eos_ids: Iterable[int] = (),
        bos_token: str | None = None,
        chat_template: str = "",
    ) -> None:
        backend.no_padding()
        backend.no_truncation()
        special_tokens = (eos_token, *SPECIAL_TOKENS[1:])
        missing = [token for token in special_tokens if backend.token_to_id(token) is None]
        if missing:
            backend.add_special_tokens(missing)
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self.added_ids = frozenset(vocabulary[token] for token in missing)
        self.eos, self.pad, self.sep, self.mask = (vocabulary[token] for token in special_tokens)
        self.eos_ids = frozenset({self.eos, *eos_ids})
        self.bos_ids = [token for token in backend.encode("").ids if token != self.eos]
        backend.post_processor = None
        backend.encode_special_tokens = True  # "<|sep|>" in a user's text is text
        self.backend, self.eos_token = backend, eos_token
        self.bos_token, self.chat_template = bos_token, chat_template
        self.unknown = backend.token_to_id(getattr(backend.model, "unk_token", None) or UNK)
        self.vocab_size = max(vocabulary.values()) + 1
        self.tokens_of: dict[str, list[int]] | None = None  # see `remember`
        self.special_text = _match_any(_special_texts(backend) | set(special_tokens))
        # Some models have special tokens in their own vocabulary, and find them in a text all the same.
        leaking = {
            text
            for text in _special_texts(backend)
            if (token := vocabulary[text]) != self.unknown
            and token in backend.encode(text, add_special_tokens=False).ids
        }
        self._leaking_ids = {vocabulary[text] for text in leaking}
        self._leaking_text = _match_any(leaking)
        self._restores_known_text = _restores_known_text(backend)

    @classmethod
    def from_published(cls, published: PublishedTokenizer, eos_ids: Iterable[int] = ()) -> Self:
        eos_token = published.eos_token or EOS
        return cls(
            published.backend, eos_token, eos_ids, published.bos_token, published.chat_template
        )

    def with_chat_template(
        self, template: str, stop_ids: Iterable[int], backend: tokenizers.Tokenizer | None = None
    ) -> "Tokenizer":
        """Return this tokenizer with a chat template, and with the tokens at which its answers end.

        Args:
            backend: one with more tokens, in place of its own.
        """
        tokenizer = Tokenizer(
            backend or self.backend,
            self.eos_token,
            self.eos_ids.union(stop_ids),
            self.bos_token,
            template,
        )
        tokenizer.bos_ids = self.bos_ids  # the backend has lost the post-processor that adds them
        return tokenizer

    @property
    def named_tokens(self) -> dict[str, str]:
        """The texts of special tokens by the names that tokenizer_config.json has for them."""
        roles = ("eos_token", "pad_token", "sep_token", "mask_token")
        texts = (self.eos_token, *SPECIAL_TOKENS[1:])
        return dict(zip(roles, texts, strict=True)) | (
            {"bos_token": self.bos_token} if self.bos_token else {}
        )

    @property
    def bos_token_id(self) -> int:
        """The bos_token_id of transformers: the token that begins a text, or eos where no file names one."""
        token = self.backend.token_to_id(self.bos_token) if self.bos_token else None
        return self.eos if token is None else token

    @property
    def eos_token_id(self) -> int | list[int]:
        """The eos_token_id of transformers: the token that ends a document, then others that end an answer."""
        others = sorted(self.eos_ids - {self.eos})
        return [self.eos, *others] if others else self.eos

    def encode(self, text: str) -> list[int]:
        return self.encode_with_offsets(text)[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        if self._leaking_ids:
            for number, row in enumerate(rows):
                if not self._leaking_ids.isdisjoint(row):
                    rows[number] = self._encode_in_parts(texts[number])[0]
        if self.tokens_of is not None:
            self.tokens_of.update(zip(texts, rows, strict=True))
        return rows

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        """Return the tokens, and for each the range of characters of `text` that it stands for."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        tokens, offsets = encoding.ids, encoding.offsets
        if self._leaking_ids and not self._leaking_ids.isdisjoint(tokens):
            tokens, offsets = self._encode_in_parts(text)
        if self.tokens_of is not None:
            self.tokens_of[text] = tokens
        return tokens, offsets

    def _encode_in_parts(self, text: str) -> tuple[list[int], list[Span]]:
        """Encode a text that is cut inside of each special token that stands in it, so that none is recognized."""
        cuts = [match.start() + 1 for match in self._leaking_text.finditer(text)]
        tokens: list[int] = []
        offsets: list[Span] = []
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            encoding = self.backend.encode(text[start:end], add_special_tokens=False)
            tokens += encoding.ids
            offsets += [(start + left, start + right) for left, right in encoding.offsets]
        return tokens, offsets

    @contextmanager
    def remember(self) -> Iterator[dict[str, list[int]]]:
        """Collect the tokens of each text that is encoded inside of the block, by text."""
        self.tokens_of = {}
        try:
            yield self.tokens_of
        finally:
            self.tokens_of = None

    def count_lost(self, text: str, tokens: list[int] | None = None) -> Counter[str]:
        """Count the characters of `text` that its tokens do not give back, because they are unknown or changed.

        Args:
            tokens: those of `text`, where the caller has them.
        """
        if self._restores_known_text and self.unknown is None:
            return Counter()
        tokens = self.encode(text) if tokens is None else tokens
        if self._restores_known_text and self.unknown not in tokens:
            return Counter()
        restored = self.restore(text, tokens)
        return Counter() if restored == text else Counter(text) - Counter(restored)

    def restore(self, text: str, tokens: list[int] | None = None) -> str:
        """Return the text that the tokens of `text` give back, without unknown ones."""
        tokens = self.encode(text) if tokens is None else tokens
        if self.unknown in tokens:
            tokens = [token for token in tokens if token != self.unknown]
        return self.decode(tokens)

    def decode(self, tokens: Iterable[int]) -> str:
        return self.backend.decode(list(tokens), skip_special_tokens=True)

    def fingerprint(self) -> str:
        eos_token = self.eos_token if self.eos_token != EOS else ""
        others = sorted(self.eos_ids - {self.eos})
        text = f"{self.backend.to_str()}{eos_token}{others or ''}{self.chat_template}"
        return short_hash(text)

    def save(self, path: Path) -> None:
        """Write tokenizer.json, and beside it the tokenizer_config.json that names the special tokens.

        Several tokens that end an answer are written as transformers does, to generation_config.json, and the chat
        template to chat_template.jinja.
        """
        self.backend.save(str(path))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **self.named_tokens,
        }
        path.with_name("tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
        if len(self.eos_ids) > 1:
            generation = {"eos_token_id": self.eos_token_id}
            path.with_name("generation_config.json").write_text(json.dumps(generation) + "\n")
        if self.chat_template:
            path.with_name(CHAT_TEMPLATE_FILE).write_bytes(self.chat_template.encode())

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Load a tokenizer.json, ours or another's; without it, convert the tokenizer files beside it by transformers.

        Raises:
            UserError: it is missing, not of this format, or of a format that this machine cannot convert.
        """
        folder = path.parent
        if not path.is_file() and folder.is_dir():
            return cls.from_published(convert_by_transformers(folder), read_eos_ids(folder))
        eos_ids, template = read_eos_ids(folder), read_chat_template(folder)
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
            eos_token, bos_token = (
                read_eos_token(folder, backend),
                read_named_token(folder, "bos_token"),
            )
            return cls(backend, eos_token or EOS, eos_ids, bos_token, template)
        except UserError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise UserError(f"{path}: not a tokenizer file ({error})") from None


class NumericTokenizer(Tokenizer):
    """Takes the place of a tokenizer that a model's folder does not have: its texts are token numbers, "464 3290".

    Args:
        special_ids: the model's eos, pad, sep and mask tokens; those that it lacks become -1, which is no token.
        eos_ids: tokens at which generation ends.
    """

    def __init__(
        self, vocab_size: int, special_ids: dict[str, int], eos_ids: Iterable[int] = ()
    ) -> None:
        self.vocab_size = vocab_size
        self.eos, self.pad, self.sep, self.mask = (
            special_ids.get(role, -1) for role in ("eos", "pad", "sep", "mask")
        )
        self.eos_ids = frozenset({self.eos, *eos_ids})
        self.bos_ids: list[int] = []
        self.bos_token, self.chat_template = None, ""
        self.unknown = None
        self.tokens_of = None
        self.special_text = _match_any(())

    def encode(self, text: str) -> list[int]:
        return self.encode_with_offsets(text)[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        words = list(re.finditer(r"\S+", text))
        if not all(word[0].isdecimal() for word in words):
            raise UserError(
                f"{text!r:.60}: the model has no tokenizer; give token numbers, such as '464 3290'"
            )
        return [int(word[0]) for word in words], [word.span() for word in words]

    def count_lost(self, text: str, tokens: list[int] | None = None) -> Counter[str]:
        return Counter()

    def decode(self, tokens: Iterable[int]) -> str:
        # Every number has a leading space, so that a prompt and its continuation can be joined.
        return "".join(f" {token}" for token in tokens)

    def fingerprint(self) -> str:
        return f"numbers below {self.vocab_size}"

    def save(self, path: Path) -> None:
        """Write nothing: there is no tokenizer."""


def build(config: schema.TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """Build the tokenizer of a config; one that needs training is trained on `texts`, the training split.

    Raises:
        UserError: a named tokenizer cannot be found.
    """
    return targets.build(config, texts)


def train_bpe(config: schema.BpeConfig, texts: Iterable[str]) -> Tokenizer:
    """Train byte-level BPE on the first characters of the texts."""
    return _train_byte_level(config.vocab_size, take_characters(texts, config.train_characters))


def build_byte(_config: schema.ByteConfig, _texts: Iterable[str]) -> Tokenizer:
    """Build a tokenizer with one token a byte; it needs no training."""
    return _train_byte_level(256 + len(SPECIAL_TOKENS), [])


def train_char(config: schema.CharConfig, texts: Iterable[str]) -> Tokenizer:
    """Build a tokenizer with one token for each character that occurs in the first characters of the texts."""
    texts = take_characters(texts, config.train_characters)
    characters = sorted({character for text in texts for character in text})
    tokens = (*SPECIAL_TOKENS, UNK, *characters)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    backend.pre_tokenizer = SPLIT_CHARACTERS
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([*SPECIAL_TOKENS, UNK])
    return Tokenizer(backend)


def load_hugging_face(config: schema.HFTokenizerConfig, _texts: Iterable[str]) -> Tokenizer:
    """Load a tokenizer from a folder, from the hub, or without a network from the hub's cache."""
    folder = Path(config.name).expanduser()
    if folder.is_dir():
        return Tokenizer.load(folder / "tokenizer.json")
    return Tokenizer.from_published(load_from_hub(config.name))


def _train_byte_level(vocab_size: int, texts: Iterable[str]) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend)


def _special_texts(backend: tokenizers.Tokenizer) -> set[str]:
    added = backend.get_added_tokens_decoder().values()
    return {token.content for token in added if token.special and len(token.content) > 1}


def _match_any(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that matches each of these texts, the longest first, and nothing else."""
    ordered = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or "(?!)")


def _restores_known_text(backend: tokenizers.Tokenizer) -> bool:
    """Return whether a text without unknown tokens certainly decodes to itself: byte-level BPE, single characters."""
    if backend.normalizer is not None:
        return False
    splitter = repr(backend.pre_tokenizer)
    if isinstance(backend.model, models.WordLevel):
        return splitter == repr(SPLIT_CHARACTERS)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return (
        isinstance(backend.model, models.BPE)
        and isinstance(backend.decoder, decoders.ByteLevel)
        and "ByteLevel(" in splitter
        and "Removed" not in splitter
        and all(backend.token_to_id(byte) is not None for byte in alphabet)
    )


def take_characters(texts: Iterable[str], count: int) -> Iterable[str]:
    """Yield the first `count` characters of the texts."""
    for text in texts:
        yield text[:count]
        count -= len(text)
        if count <= 0:
            return
