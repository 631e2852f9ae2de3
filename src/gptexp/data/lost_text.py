"""Text that the tokens of a text do not give back: characters that are unknown, changed, or lost in their words."""

import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from gptexp.data.tokenizers import Tokenizer
from gptexp.wording import format_count

MAX_CHARACTERS_KEPT = 50  # of a kind, the most frequent ones
MAX_SHOWN = 5
KINDS = ("unknown", "changed", "spaces", "in_context")  # tallies of LostText
NAMES = {"\n": "line end", "\t": "tab", " ": "space", "\r": "carriage return"}


@dataclass
class CharacterTally:
    """Characters that tokens do not give back, by what becomes of them."""

    total: int = 0
    characters: dict[str, int] = field(default_factory=dict)
    first: str = ""  # word with such a character

    def add(self, name: str, count: int) -> None:
        self.total += count
        self.characters[name] = self.characters.get(name, 0) + count

    def merge(self, other: Self) -> None:
        """Add the counts of another tally."""
        self.total += other.total
        self.first = self.first or other.first
        for name, count in other.characters.items():
            self.characters[name] = self.characters.get(name, 0) + count

    def text(self) -> str:
        """Return the most frequent characters with their numbers."""
        parts = [f"{_name(name)} {count:,}" for name, count in self.commonest(MAX_SHOWN).items()]
        more = len(self.characters) - len(parts)
        return ", ".join(parts) + (f" and {more:,} others" if more > 0 else "")

    def commonest(self, count: int) -> dict[str, int]:
        """Return the most frequent characters."""
        ordered = sorted(self.characters.items(), key=lambda item: (-item[1], item[0]))
        return dict(ordered[:count])


@dataclass
class LostText:
    """Text that an encoder's tokens do not give back."""

    texts: int = 0
    lossy: int = 0  # texts with a character that is lost
    unknown: CharacterTally = field(default_factory=CharacterTally)  # without a token
    changed: CharacterTally = field(default_factory=CharacterTally)  # "A to a"
    spaces: CharacterTally = field(default_factory=CharacterTally)  # line ends, tabs, double spaces
    in_context: CharacterTally = field(default_factory=CharacterTally)  # in an unknown word
    # Tally of a lost character, and its name there.
    _kinds: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)

    def add(self, text: str, tokenizer: Tokenizer, tokens: list[int] | None = None) -> Counter[str]:
        """Count the characters of a text that are lost, and return them."""
        self.texts += 1
        lost = tokenizer.count_lost(text, tokens)
        if not lost:
            return lost
        self.lossy += 1
        composed: Counter[str] | None = None
        for character, count in lost.items():
            if character not in self._kinds:
                self._kinds[character] = self._classify(character, tokenizer)
            kind, name = self._kinds[character]
            if kind == "in_context" and not text.isascii():
                composed = composed or Counter(unicodedata.normalize("NFC", text))
                if composed[character] < text.count(character):
                    kind, name = "changed", "letters with separate accents to composed ones (NFC)"
            tally: CharacterTally = getattr(self, kind)
            tally.add(name, count)
            if not tally.first and kind != "spaces":
                tally.first = next(word[:40] for word in text.split() if character in word)
        return lost

    def _classify(self, character: str, tokenizer: Tokenizer) -> tuple[str, str]:
        """Return the tally of a lost character and its name there."""
        if character.isspace():
            return "spaces", character
        alone = tokenizer.restore(character).strip()
        if not alone:
            return "unknown", character
        if alone == character:
            return "in_context", character
        return "changed", f"{_name(character)} to {_name(alone)}"

    def merge(self, other: Self) -> None:
        """Add the counts of another part of the texts."""
        self.texts += other.texts
        self.lossy += other.lossy
        for kind in KINDS:
            getattr(self, kind).merge(getattr(other, kind))

    def sentences(self) -> list[str]:
        """Describe what is lost, one sentence a kind."""
        sentences = []
        if self.unknown.total:
            sentences.append(
                f"{format_count(self.unknown.total, 'character')} without a token: {self.unknown.text()}"
            )
        if self.changed.total:
            sentences.append(
                f"{format_count(self.changed.total, 'character')} changed by the tokenizer: "
                f"{self.changed.text()}"
            )
        if self.in_context.total:
            sentences.append(
                f"{format_count(self.in_context.total, 'character')} lost in their words, for example in "
                f"'{self.in_context.first}'"
            )
        if self.spaces.total:
            sentences.append(
                f"{format_count(self.spaces.total, 'space')} or line ends lost: {self.spaces.text()}"
            )
        return sentences

    @property
    def has_unknown(self) -> bool:
        return self.unknown.total + self.in_context.total > 0

    def is_readable(self, text: str, lost: Counter[str]) -> bool:
        """Return whether any letter of a text has a token; where it has no letters, any character.

        Args:
            lost: characters of the text that `add` returned.
        """
        unread = {c: n for c, n in lost.items() if self._kinds[c][0] in ("unknown", "in_context")}
        kept = set(Counter(text) - Counter(unread)) if unread else set(text)
        if any(map(str.isalpha, text)):
            return any(map(str.isalpha, kept))
        return not all(map(str.isspace, kept))

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        del values["_kinds"]
        for kind in KINDS:
            tally: CharacterTally = getattr(self, kind)
            values[kind]["characters"] = tally.commonest(MAX_CHARACTERS_KEPT)
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        tallies = [CharacterTally(**values[kind]) for kind in KINDS]
        return cls(values["texts"], values["lossy"], *tallies)


def _name(text: str) -> str:
    """Return a character as it can be seen: an invisible one by its Unicode name."""
    if len(text) > 1 or text in NAMES:
        return NAMES.get(text, text)
    if unicodedata.category(text)[0] in "CZM":
        return unicodedata.name(text, f"U+{ord(text):04X}").lower()
    return f"'{text}'"
