"""Count the tokens of the corpus, and cut records to a context, with the tokenizer of base."""

from collections import Counter
from pathlib import Path
from typing import Any

from records import Record

import gptexp
from gptexp.data.tokenizers import Tokenizer

MAX_TOKENS = 500  # of a record with an answer: it fits into a context of 512
SAMPLED = 20  # one of so many records of a kind is encoded


class TokenCounts:
    """Bytes and records by split and kind, and tokens estimated from a sample of the records."""

    def __init__(self) -> None:
        folder = Path(gptexp.__file__).parent / "weights" / "base"
        self.tokenizer = Tokenizer.load(folder / "tokenizer.json")
        self.bytes: Counter[tuple[str, str]] = Counter()  # (split, kind)
        self.records: Counter[tuple[str, str]] = Counter()
        self.sampled_bytes: Counter[str] = Counter()  # kind
        self.sampled_tokens: Counter[str] = Counter()

    def fit(self, record: Record) -> Record:
        """Return the record with its text cut so that text and answer fit into a context; any document fits."""
        answer = record.get("answer")
        if answer is None or len(record["text"]) + len(answer) < MAX_TOKENS:
            return record
        room = MAX_TOKENS - len(self.tokenizer.encode(answer)) - 2
        tokens, offsets = self.tokenizer.encode_with_offsets(record["text"])
        if len(tokens) <= room:
            return record
        return record | {"text": record["text"][: offsets[max(1, room) - 1][1]].rstrip()}

    def add(self, split: str, kind: str, record: Record) -> None:
        size = sum(len(text.encode()) for text in record.values())
        self.bytes[split, kind] += size
        if self.records[split, kind] % SAMPLED == 0:
            self.sampled_bytes[kind] += size
            # each text has a separator or an end behind it
            tokens = sum(len(self.tokenizer.encode(text)) + 1 for text in record.values())
            self.sampled_tokens[kind] += tokens
        self.records[split, kind] += 1

    def total_bytes(self, split: str) -> int:
        return sum(size for (name, _), size in self.bytes.items() if name == split)

    def summary(self) -> dict[str, Any]:
        """Return tokens by split, and records and tokens by split and kind."""
        totals: Counter[str] = Counter()
        kinds: dict[str, dict[str, dict[str, int]]] = {}
        for (split, kind), size in self.bytes.items():
            tokens = round(size * self.sampled_tokens[kind] / max(1, self.sampled_bytes[kind]))
            totals[split] += tokens
            counts = {"records": self.records[split, kind], "tokens": tokens}
            kinds.setdefault(split, {})[kind] = counts
        return {"tokens": dict(totals), "kinds": kinds}
