"""Encode texts that a chat template has rendered: its special tokens are tokens, those inside of messages stay text."""

import re
from collections.abc import Iterator
from typing import Any

import tokenizers

from gptexp.data.tokenizers import Span, Tokenizer

# Noncharacters of Unicode around each special text of a message.
TEXT_START, TEXT_END = "\ufdd0", "\ufdd1"
MARKS = re.compile("[\ufdd0-\ufdd3]")


class TemplateText:
    """Encodes rendered texts with a tokenizer as transformers does, and keeps the special texts of messages text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        # The tokenizer's own backend takes special tokens for text. A switch back and forth would not be thread-safe.
        self._backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
        self._newline = self._encode_special("\n")[0]
        special = tokenizer.special_text.pattern
        # A template that splits a text may leave one mark alone.
        self._protected = re.compile(f"{TEXT_START}({special}){TEXT_END}|[{TEXT_START}{TEXT_END}]")

    def protect(self, value: Any) -> Any:
        """Return a value of a message with marks around its special texts, in all strings that it holds."""
        if isinstance(value, str):
            text = MARKS.sub("", value)
            return self.tokenizer.special_text.sub(rf"{TEXT_START}\g<0>{TEXT_END}", text)
        if isinstance(value, dict):
            return {self.protect(key): self.protect(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.protect(entry) for entry in value]
        return value

    def encode(self, text: str) -> tuple[list[int], list[Span]]:
        """Return the tokens of a rendered text, and for each the range of characters that it stands for.

        A text without marks is encoded at once, so that spaces beside special tokens are treated as in transformers.
        """
        if MARKS.search(text) is None:
            return self._encode_special(text)
        tokens: list[int] = []
        offsets: list[Span] = []
        for start, piece, is_protected in self._pieces(text):
            ids, spans = self._encode_piece(piece, is_protected, is_first=start == 0)
            tokens += ids
            offsets += [(start + left, start + right) for left, right in spans]
        return tokens, offsets

    def _encode_special(self, text: str) -> tuple[list[int], list[Span]]:
        encoding = self._backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def _encode_piece(
        self, piece: str, is_protected: bool, is_first: bool
    ) -> tuple[list[int], list[Span]]:
        encode = self.tokenizer.encode_with_offsets if is_protected else self._encode_special
        if is_first:
            return encode(piece)
        # SentencePiece puts a space before the first word of a text; behind a newline it does not.
        tokens, offsets = encode(f"\n{piece}")
        count = len(self._newline)
        if tokens[:count] != self._newline:
            return encode(piece)
        return tokens[count:], [(left - 1, right - 1) for left, right in offsets[count:]]

    def _pieces(self, text: str) -> Iterator[tuple[int, str, bool]]:
        """Yield the parts of a text between marks: where each begins, and whether it is a protected special text."""
        position = 0
        for match in self._protected.finditer(text):
            if match.start() > position:
                yield position, text[position : match.start()], False
            if match[1]:
                yield match.start(1), match[1], True
            position = match.end()
        if position < len(text):
            yield position, text[position:], False
