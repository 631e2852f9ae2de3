"""The data account: what became of the examples of a corpus. It is filled while a store is built, and kept in it.

It counts the examples that were read, left out and cut, the characters that the tokenizer does not give back, special
tokens that stand in a text, terms and other things that a layout notes, near-duplicates, and splits of one label.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora import Example
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError

if TYPE_CHECKING:
    from gptexp.data.token_store import TokenizedExample

MAX_CHARACTERS_KEPT = 50  # of a kind, the most frequent ones
MAX_LABELS = 20  # of a split; with more different targets they are no labels
MAX_SHOWN = 5
SPLIT_ORDER = ("train", "val", "test", "unseen")
KINDS = ("unknown", "changed", "spaces", "in_context")  # tallies of LostText


@dataclass
class Tally:
    """A number of occurrences, and the place or the text of the first one."""

    count: int = 0
    first: str = ""

    def add(self, first: str) -> None:
        self.first = self.first or first
        self.count += 1


@dataclass
class CutTally:
    """Examples of which a part was cut, and the tokens that are lost."""

    examples: int
    tokens: int
    longest: int
    setting: str


@dataclass
class CharacterTally:
    """Characters that tokens do not give back, by what becomes of them."""

    total: int = 0
    characters: dict[str, int] = field(default_factory=dict)
    first: str = ""  # word with such a character

    def add(self, name: str, count: int) -> None:
        self.total += count
        self.characters[name] = self.characters.get(name, 0) + count

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

    def sentences(self) -> list[str]:
        """Describe what is lost, one sentence a kind."""
        sentences = []
        if self.unknown.total:
            sentences.append(
                f"{_number(self.unknown.total, 'character')} without a token: {_commonest(self.unknown)}"
            )
        if self.changed.total:
            sentences.append(
                f"{_number(self.changed.total, 'character')} changed by the tokenizer: "
                f"{_commonest(self.changed)}"
            )
        if self.in_context.total:
            sentences.append(
                f"{_number(self.in_context.total, 'character')} lost in their words, for example in "
                f"'{self.in_context.first}'"
            )
        if self.spaces.total:
            sentences.append(
                f"{_number(self.spaces.total, 'space')} or line ends lost: {_commonest(self.spaces)}"
            )
        return sentences

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        tallies = [CharacterTally(**values[kind]) for kind in KINDS]
        return cls(values["texts"], values["lossy"], *tallies)


@dataclass
class DataAccount:
    examples: int = 0  # read from the corpus
    splits: dict[str, int] = field(default_factory=dict)  # examples that are used
    left_out: dict[str, Tally] = field(default_factory=dict)  # by reason
    cuts: dict[str, CutTally] = field(default_factory=dict)  # by part, "source" for example
    notes: dict[str, Tally] = field(default_factory=dict)  # of the layout, by text
    special_tokens: dict[str, Tally] = field(default_factory=dict)  # in a text, by token
    text: LostText = field(default_factory=LostText)
    duplicate_groups: int = 0  # of near-duplicates that are kept in one split
    duplicates: int = 0  # examples in these groups
    one_sided: list[str] = field(default_factory=list)  # remarks on splits
    # Fields of the training split of which a letter is known (or a sign, where a text has no letters).
    _readable: set[str] = field(default_factory=set, init=False)
    _labels: dict[str, set[str]] = field(default_factory=dict, init=False)  # by split

    def leave_out(self, reason: str, where: str) -> None:
        """Count an example that is not used."""
        self.left_out.setdefault(reason, Tally()).add(where or f"example {self.examples}")

    def add(
        self,
        example: Example,
        encoded: "TokenizedExample",
        split: str,
        fields: Iterable[str],
        tokenizer: Tokenizer,
        tokens_of: dict[str, list[int]],
    ) -> int:
        """Count an example that is used, and return the number of bytes that its last field loses in encoding.

        Args:
            tokens_of: tokens of texts, where they are known.
        """
        self.splits[split] = self.splits.get(split, 0) + 1
        for cut in encoded.cuts:
            tally = self.cuts.setdefault(cut.part, CutTally(0, 0, 0, cut.setting))
            tally.examples += 1
            tally.tokens += cut.tokens
            tally.longest = max(tally.longest, cut.tokens)
        for note, instance in encoded.notes:
            self.notes.setdefault(note, Tally()).add(instance)
        lost: Counter[str] = Counter()
        text = ""
        for name in fields:
            text = example.fields[name]
            lost = self.text.add(text, tokenizer, tokens_of.get(text))
            for token in set(tokenizer.special_text.findall(text)):
                self.special_tokens.setdefault(token, Tally()).add(example.where)
            if split == "train" and name not in self._readable and _is_readable(text, lost):
                self._readable.add(name)
        labels = self._labels.setdefault(split, set())
        if len(labels) <= MAX_LABELS:
            labels.add(text)
        return sum(len(character.encode()) * count for character, count in lost.items())

    def add_groups(
        self, groups: NDArray[np.int64], splits: NDArray[np.uint8], names: tuple[str, ...]
    ) -> None:
        """Count groups of duplicates, and name splits that consist of one.

        Args:
            groups: [N] label of the group of each example.
            splits: [N] index into `names` of the split of each example.
        """
        _, sizes = np.unique(groups, return_counts=True)
        self.duplicate_groups = int((sizes > 1).sum())
        self.duplicates = int(sizes[sizes > 1].sum())
        for split in np.unique(splits).tolist():
            members = groups[splits == split]
            if len(members) > 1 and (members == members[0]).all():
                self.one_sided.append(
                    f"the {len(members):,} examples of the {names[split]} split are all alike"
                )

    def finish(self, fields: tuple[str, ...]) -> None:
        """Compare the labels of the splits.

        Raises:
            UserError: nothing is left to train on, or the tokenizer knows no letter of a field.
        """
        if not self.splits.get("train"):
            if self.left_out:
                raise UserError(f"nothing is left to train on.{self.left_out_text()}")
            return
        for name in fields:
            if name not in self._readable and (
                self.text.unknown.total or self.text.in_context.total
            ):
                raise UserError(
                    f"the tokenizer has no token for any letter of the field '{name}' "
                    f"({_commonest(self.text.unknown) or self.text.in_context.first}): nothing could be learned "
                    f"from it. Use another tokenizer; with init=..., one that was trained on such text"
                )
        if fields != ("text",):
            self._compare_labels()

    def left_out_text(self) -> str:
        """Return why examples were left out, as the sentence of a message; "": none were."""
        reasons = [
            f"{tally.count:,} because {reason} (first: {tally.first})"
            for reason, tally in self.left_out.items()
        ]
        if not reasons:
            return ""
        return f" Left out of {_number(self.examples, 'example')}: {'; '.join(reasons)}."

    def _compare_labels(self) -> None:
        train = self._labels.get("train", set())
        # Labels repeat, other targets do not.
        is_closed = len(train) <= min(MAX_LABELS, self.splits["train"] / 2)
        for split, labels in self._labels.items():
            if len(labels) == 1 and self.splits[split] > 1:
                [label] = labels
                self.one_sided.append(f"every target of the {split} split is '{label:.40}'")
            elif is_closed and labels.isdisjoint(train):
                self.one_sided.append(f"no target of the {split} split occurs in the train split")

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        del values["_labels"], values["_readable"], values["text"]["_kinds"]
        for kind in KINDS:
            tally: CharacterTally = getattr(self.text, kind)
            values["text"][kind]["characters"] = tally.commonest(MAX_CHARACTERS_KEPT)
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        tallies = {
            name: {key: Tally(**tally) for key, tally in values[name].items()}
            for name in ("left_out", "notes", "special_tokens")
        }
        cuts = {part: CutTally(**tally) for part, tally in values["cuts"].items()}
        return cls(
            **{**values, **tallies, "cuts": cuts, "text": LostText.from_json(values["text"])}
        )

    def rows(self) -> list[tuple[str, str]]:
        """Return the account as lines of a table, each with a label."""
        order = sorted(self.splits, key=SPLIT_ORDER.index)
        used = ", ".join(f"{split} {self.splits[split]:,}" for split in order)
        rows = [("read", f"{_number(self.examples, 'example')}; used: {used or 'none'}")]
        for reason, tally in self.left_out.items():
            rows.append(("left out", f"{tally.count:,}: {reason} (first: {tally.first})"))
        for part, cut in self.cuts.items():
            mean = cut.tokens / cut.examples
            rows.append(
                (
                    "cut",
                    f"{part} of {_number(cut.examples, 'example')}, by {mean:,.0f} tokens on average and "
                    f"{cut.longest:,} at most: {cut.setting}",
                )
            )
        for note, tally in self.notes.items():
            rows.append(("terms", f"{tally.count:,} {note}, for example '{tally.first:.40}'"))
        rows += [("tokenizer", sentence) for sentence in self.text.sentences()]
        for token, tally in self.special_tokens.items():
            of_texts = f"{_number(tally.count, 'text')}: {describe_special_tokens(token)}"
            rows.append(("tokenizer", of_texts))
        if self.duplicates:
            rows.append(
                (
                    "duplicates",
                    f"{self.duplicates:,} examples share their text, source or image, or nearly so: "
                    f"{_number(self.duplicate_groups, 'group')}, each kept in one split",
                )
            )
        rows += [("splits", remark) for remark in self.one_sided]
        return rows

    def table(self) -> str:
        """Return the account as a short table for a terminal."""
        return "\n".join(f"  {label:<12}{text}" for label, text in self.rows())

    def summary(self) -> str:
        """Return the account in one line."""
        parts = []
        if left_out := sum(tally.count for tally in self.left_out.values()):
            parts.append(f"{left_out:,} left out")
        parts += [f"{part} of {cut.examples:,} cut" for part, cut in self.cuts.items()]
        if self.text.lossy:
            parts.append(f"{self.text.lossy:,} texts changed by the tokenizer")
        parts += self.one_sided
        details = f" ({'; '.join(parts)})" if parts else ""
        return f"data: {sum(self.splits.values()):,} of {_number(self.examples, 'example')} used{details}"


def describe_special_tokens(token: str) -> str:
    """Say that a text with the name of a special token does not have the token itself."""
    return f"{token} is read as text, not as a special token"


def _is_readable(text: str, lost: Counter[str]) -> bool:
    """Return whether a letter of a text is known, or a sign where it has no letters."""
    if not lost:
        return bool(text.strip())
    kept = Counter(text) - lost
    if any(character.isalpha() for character in text):
        return any(character.isalpha() for character in kept)
    return any(not character.isspace() for character in kept)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _commonest(tally: CharacterTally) -> str:
    shown = [f"{_name(text)} {count:,}" for text, count in tally.commonest(MAX_SHOWN).items()]
    more = len(tally.characters) - len(shown)
    return ", ".join(shown) + (f" and {more:,} others" if more > 0 else "")


def _name(text: str) -> str:
    """Return a character as it can be seen: an invisible one by its Unicode name."""
    names = {"\n": "line end", "\t": "tab", " ": "space", "\r": "carriage return"}
    if len(text) > 1 or text in names:
        return names.get(text, text)
    if unicodedata.category(text)[0] in "CZM":
        return unicodedata.name(text, f"U+{ord(text):04X}").lower()
    return f"'{text}'"
