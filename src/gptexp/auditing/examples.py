"""Read the examples of a config as a run reads them, with the split that a run gives them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.config.cache import cache_folder
from gptexp.config.schema import Config
from gptexp.data.account import DataAccount
from gptexp.data.build_store import usable_examples
from gptexp.data.corpora import Corpus, Example, open_corpus
from gptexp.data.corpora.corpus import SPLITS
from gptexp.data.progress import track_progress
from gptexp.data.splits import assign_splits
from gptexp.errors import UserError
from gptexp.tasks.task import make_task

MAX_BEGINNING = 100  # characters of an example in a report


@dataclass(slots=True)
class AuditedExample:
    row: int  # from 0, among those that a run uses
    where: str  # its place in the source: "pairs.jsonl, line 3"
    split: str
    fields: dict[str, str]  # their texts as a reader sees them
    record: dict[str, Any]  # of a JSON file
    ends_document: bool
    media_digest: str = ""  # of its picture or recording

    @property
    def text(self) -> str:
        """All fields of the example."""
        return "\n".join(self.fields.values())

    @property
    def beginning(self) -> str:
        """The first words of the example, for a report."""
        text = " ".join(self.text[: 4 * MAX_BEGINNING].split())
        return text if len(text) <= MAX_BEGINNING else text[: MAX_BEGINNING - 3] + "..."


class ExampleCounter(Counter[str]):
    """Counts examples by split. An example that is added for several of its fields counts once."""

    last_row = -1

    def add(self, row: int, split: str) -> None:
        if row != self.last_row:
            self[split] += 1
            self.last_row = row


@dataclass
class SplitExamples:
    """The usable examples of a corpus. Each pass reads the corpus again, so that texts need no memory."""

    corpus: Corpus
    fields: tuple[str, ...]
    medium: str
    limit: int | None
    account: DataAccount = field(default_factory=DataAccount)
    splits: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))  # [N]

    @classmethod
    def read(cls, config: Config, visit: Callable[[AuditedExample], None]) -> "SplitExamples":
        """Read the data of a config, and assign the splits that a run assigns.

        Args:
            visit: called with each example, before its split is known.

        Raises:
            UserError: the data cannot be read, do not fit the task, or have no example.
        """
        layout = make_task(config.task, config.model).layout
        corpus = open_corpus(config.data, layout.fields, cache_folder(config), layout.medium)
        examples = cls(corpus, layout.fields, layout.medium, config.data.limit)

        def columns() -> Iterator[tuple[str, str, str | None]]:
            usable = usable_examples(corpus, config.data.limit, examples.account)
            for row, example in enumerate(track_progress(usable, "reading")):
                audited = _audited(row, example, "", examples.account)
                if example.media is not None:
                    content = example.media().tobytes()
                    audited.media_digest = hashlib.blake2b(content, digest_size=8).hexdigest()
                visit(audited)
                yield audited.text, example.group_key, example.split

        fractions = {"val": config.data.val_fraction, "test": config.data.test_fraction}
        rule = "exact" if corpus.has_fixed_splits else config.data.split
        examples.splits = assign_splits(columns(), rule, fractions)
        if not len(examples.splits):
            raise UserError(f"no example is left to audit.{examples.account.left_out_text()}")
        return examples

    def __len__(self) -> int:
        return len(self.splits)

    def __iter__(self) -> Iterator[AuditedExample]:
        account = DataAccount()
        for row, example in enumerate(usable_examples(self.corpus, self.limit, account)):
            yield _audited(row, example, SPLITS[self.splits[row]], account)

    def counts(self) -> dict[str, int]:
        """Return the number of examples in each split that has any."""
        counts = {split: int((self.splits == code).sum()) for code, split in enumerate(SPLITS)}
        return {split: count for split, count in counts.items() if count}


def _audited(row: int, example: Example, split: str, account: DataAccount) -> AuditedExample:
    where = example.where or f"example {account.examples}"
    texts = {name: "\n".join(example.texts_of(name)) for name in example.fields}
    return AuditedExample(row, where, split, texts, example.record, example.ends_document)
