"""Findings of an audit of data, each with the places of its examples, and counts."""

from dataclasses import dataclass, field
from pathlib import Path

from gptexp.auditing import FAULTS
from gptexp.auditing.examples import AuditedExample, ExampleCounter, SplitExamples
from gptexp.auditing.groups import GroupCounter
from gptexp.auditing.personal_data import mask_personal_data
from gptexp.auditing.profile import Profile


@dataclass(frozen=True)
class Place:
    """Where a text stands."""

    row: int  # of the example, among all that are used; -1 for a benchmark
    where: str  # "/data/pairs.jsonl, line 3"
    split: str  # or "benchmark"
    text: str  # its first words, personal data masked

    @property
    def short(self) -> str:
        """The place without the folder of its file: "pairs.jsonl, line 3"."""
        return Path(self.where).name

    @classmethod
    def of(cls, example: AuditedExample) -> "Place":
        text = mask_personal_data(example.beginning)
        return cls(example.row, example.where, example.split, text)


@dataclass(frozen=True)
class CopyFinding:
    """An example that repeats another."""

    example: Place
    of: Place
    field: str  # that is repeated; "": the whole example
    similarity: float
    is_equal: bool


@dataclass(frozen=True)
class LeakFinding:
    """A training example that contains a held-out text, or an item of a benchmark."""

    example: Place
    item: Place
    share: float  # of the item's n-grams
    run: int  # longest number of the item's words in a row


@dataclass(frozen=True)
class PassageFinding:
    """An example that has a passage in common with an earlier one of its split."""

    example: Place
    of: Place
    words: int  # in a row


@dataclass(frozen=True)
class PersonalFinding:
    """A piece of personal data."""

    example: Place
    field: str
    kind: str
    start: int  # character in the field
    text: str
    masked: str


@dataclass
class TermCount:
    """How often a term of the user's lists occurs."""

    occurrences: int = 0
    examples: ExampleCounter = field(default_factory=ExampleCounter)
    contexts: list[str] = field(default_factory=list)


@dataclass
class DataAudit:
    """All findings about the data of a config."""

    examples: SplitExamples
    groups: GroupCounter
    terms: dict[str, dict[str, TermCount]]  # list -> term
    num_benchmark_items: int
    profile: Profile = field(default_factory=Profile)
    copies: list[CopyFinding] = field(default_factory=list)
    leaks: list[LeakFinding] = field(default_factory=list)
    passages: list[PassageFinding] = field(default_factory=list)
    personal: list[PersonalFinding] = field(default_factory=list)
    # Kind of fault -> the rows that have it, with the reason for which a filtered copy leaves each out.
    faults: dict[str, dict[int, str]] = field(
        default_factory=lambda: {fault: {} for fault in FAULTS}
    )
