"""The data account: what became of the examples of a corpus. It is filled while a store is built, and kept in it.

It counts the examples that were read, left out and cut, the characters that the tokenizer does not give back, special
tokens that stand in a text, terms and other things that a layout notes, near-duplicates, and splits of one label.
"""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from gptexp.data.corpora import Example
from gptexp.data.corpora.corpus import SPLITS
from gptexp.data.corpora.fields import OPTIONAL_FIELDS
from gptexp.data.lost_text import LostText
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.wording import format_count

if TYPE_CHECKING:
    from gptexp.data.token_store import TokenizedExample

TALLIES = ("left_out", "reader_notes", "notes", "special_tokens")  # of an account
MAX_LABELS = 20  # of a split; with more different targets they are no labels


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
class DataAccount:
    examples: int = 0  # read from the corpus
    unit: str = "example"  # that is counted: "file" where nobody knows the examples
    splits: dict[str, int] = field(default_factory=dict)  # examples that are used
    left_out: dict[str, Tally] = field(default_factory=dict)  # by reason
    cuts: dict[str, CutTally] = field(default_factory=dict)  # by part, "source" for example
    reader_notes: dict[str, Tally] = field(default_factory=dict)  # of the corpus, by text
    notes: dict[str, Tally] = field(default_factory=dict)  # of the layout, by text
    special_tokens: dict[str, Tally] = field(default_factory=dict)  # in a text, by token
    text: LostText = field(default_factory=LostText)
    duplicate_groups: int = 0  # of near-duplicates that are kept in one split
    duplicates: int = 0  # examples in these groups
    remarks: list[str] = field(default_factory=list)  # sentences about splits
    # (split, field) of which the tokenizer knows a letter, or any character where a text has no letters.
    readable: set[tuple[str, str]] = field(default_factory=set)
    # What examples share that stay in one split.
    group_name: str = field(default="source, text or image", init=False)
    # By split: prompts that are cut, as long as all are the same.
    _cut_prompts: dict[str, set[tuple[int, ...]]] = field(default_factory=dict, init=False)
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
        learned: Collection[str],
        tokenizer: Tokenizer,
        tokens_of: dict[str, list[int]],
    ) -> int:
        """Count an example that is used, and return the number of bytes that its learned fields lose in encoding.

        Args:
            learned: those of `fields` whose texts the model learns.
            tokens_of: tokens of texts, where they are known.
        """
        self.splits[split] = self.splits.get(split, 0) + 1
        for cut in encoded.cuts:
            tally = self.cuts.setdefault(cut.part, CutTally(0, 0, 0, cut.setting))
            tally.examples += 1
            tally.tokens += cut.tokens
            tally.longest = max(tally.longest, cut.tokens)
        for note in example.notes:
            self.reader_notes.setdefault(note, Tally()).add(example.where)
        for note, instance in encoded.notes:
            self.notes.setdefault(note, Tally()).add(instance)
        lost_bytes = 0
        label = ""
        for name in fields:
            for text in example.texts_of(name):
                label = label if name == "rejected" else text  # the last text that is learned
                if not text and name in OPTIONAL_FIELDS:
                    self.readable.add((split, name))
                    continue
                lost = self.text.add(text, tokenizer, tokens_of.get(text))
                if name in learned:
                    lost_bytes += sum(len(char.encode()) * count for char, count in lost.items())
                for token in set(tokenizer.special_text.findall(text)):
                    self.special_tokens.setdefault(token, Tally()).add(example.where)
                if (split, name) not in self.readable and self.text.is_readable(text, lost):
                    self.readable.add((split, name))
        prompts = self._cut_prompts.setdefault(split, set())
        if encoded.prefix and len(prompts) < 2:
            # One that is not cut counts as another.
            prompts.add(tuple(encoded.tokens[: encoded.prefix]) if encoded.cuts else ())
        labels = self._labels.setdefault(split, set())
        if len(labels) <= MAX_LABELS:
            labels.add(label)
        return lost_bytes

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
                self.remarks.append(
                    f"the {len(members):,} examples of the {names[split]} split are all alike"
                )

    def merge(self, other: Self) -> None:
        """Add the counts of another part of the corpus, which follows this one."""
        self.examples += other.examples
        for split, count in other.splits.items():
            self.splits[split] = self.splits.get(split, 0) + count
        for name in TALLIES:
            ours: dict[str, Tally] = getattr(self, name)
            for text, tally in getattr(other, name).items():
                ours.setdefault(text, Tally(0, tally.first)).count += tally.count
        for part, cut in other.cuts.items():
            ours_cut = self.cuts.setdefault(part, CutTally(0, 0, 0, cut.setting))
            ours_cut.examples += cut.examples
            ours_cut.tokens += cut.tokens
            ours_cut.longest = max(ours_cut.longest, cut.longest)
        self.text.merge(other.text)
        self.readable |= other.readable

    def finish(self, fields: tuple[str, ...]) -> None:
        """Compare the labels of the splits.

        Raises:
            UserError: nothing is left to train on, or the tokenizer knows no letter of a field.
        """
        if not self.splits.get("train"):
            if self.left_out:
                raise UserError(f"nothing is left to train on.{self.left_out_text()}")
            return
        for split, name in ((split, name) for split in self.splits for name in fields):
            if (split, name) in self.readable or not self.text.has_unknown:
                continue
            problem = f"the tokenizer knows no letter of the field '{name}' in the {split} split"
            if split == "train":
                example = self.text.unknown.text() or self.text.in_context.first
                raise UserError(
                    f"{problem} ({example}): nothing could be learned from it. Use another tokenizer; with init=..., "
                    f"weights whose tokenizer was trained on such text"
                )
            self.remarks.append(problem)
        for split, prompts in self._cut_prompts.items():
            if self.splits[split] > 1 and len(prompts) == 1 and () not in prompts:
                self.remarks.append(
                    f"all prompts of the {split} split are the same once they are cut"
                )
        if fields[0] != "text":  # the texts of pretraining are no labels
            self._compare_labels("chosen answer" if "chosen" in fields else "target")

    def left_out_text(self) -> str:
        """Return why examples were left out, as the sentence of a message; "": none were."""
        reasons = [
            f"{tally.count:,} because {reason} (first: {tally.first})"
            for reason, tally in self.left_out.items()
        ]
        if not reasons:
            return ""
        return f" Left out of {format_count(self.examples, 'example')}: {'; '.join(reasons)}."

    def _compare_labels(self, noun: str) -> None:
        train = self._labels.get("train", set())
        # Labels repeat, other targets do not.
        is_closed = len(train) <= min(MAX_LABELS, self.splits["train"] / 2)
        for split, labels in self._labels.items():
            if len(labels) == 1 and self.splits[split] > 1:
                [label] = labels
                self.remarks.append(f"every {noun} of the {split} split is '{label:.40}'")
            elif is_closed and labels.isdisjoint(train):
                self.remarks.append(f"no {noun} of the {split} split occurs in the train split")

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        del values["_labels"], values["_cut_prompts"], values["group_name"]
        values["readable"] = sorted(self.readable)
        values["text"] = self.text.as_json()
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        tallies = {
            name: {key: Tally(**tally) for key, tally in values[name].items()} for name in TALLIES
        }
        cuts = {part: CutTally(**tally) for part, tally in values["cuts"].items()}
        text = LostText.from_json(values["text"])
        readable = {(split, name) for split, name in values.get("readable", [])}
        return cls(**{**values, **tallies, "cuts": cuts, "text": text, "readable": readable})

    def rows(self) -> list[tuple[str, str]]:
        """Return the account as lines of a table, each with a label."""
        order = sorted(self.splits, key=SPLITS.index)
        used = ", ".join(f"{split} {self.splits[split]:,}" for split in order)
        rows = [("read", f"{format_count(self.examples, self.unit)}; used: {used or 'none'}")]
        for reason, tally in self.left_out.items():
            rows.append(("left out", f"{tally.count:,}: {reason} (first: {tally.first})"))
        for note, tally in self.reader_notes.items():
            rows.append(
                ("read", f"{format_count(tally.count, 'example')}: {note} (first: {tally.first})")
            )
        for part, cut in self.cuts.items():
            mean = cut.tokens / cut.examples
            rows.append(
                (
                    "cut",
                    f"{part} of {format_count(cut.examples, 'example')}, by {mean:,.0f} tokens on average and "
                    f"{cut.longest:,} at most: {cut.setting}",
                )
            )
        for note, tally in self.notes.items():
            rows.append(("task", f"{tally.count:,} {note}, for example '{tally.first:.40}'"))
        rows += [("tokenizer", sentence) for sentence in self.text.sentences()]
        for token, tally in self.special_tokens.items():
            of_texts = f"{format_count(tally.count, 'text')}: {describe_special_tokens(token)}"
            rows.append(("tokenizer", of_texts))
        if self.duplicates:
            rows.append(
                (
                    "duplicates",
                    f"{self.duplicates:,} examples share their text, source or image, or nearly so: "
                    f"{format_count(self.duplicate_groups, 'group')}, each kept in one split",
                )
            )
        rows += [("splits", remark) for remark in self.remarks]
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
        parts += self.remarks
        details = f" ({'; '.join(parts)})" if parts else ""
        return f"data: {sum(self.splits.values()):,} of {format_count(self.examples, self.unit)} used{details}"


def describe_special_tokens(token: str) -> str:
    """Say that a text with the name of a special token does not have the token itself."""
    return f"{token} is read as text, not as a special token"
