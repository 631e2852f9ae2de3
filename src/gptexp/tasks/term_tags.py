"""Terms of a text as a tag for each of its tokens, and tags as terms: the layout and the answerer of an encoder."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch

from gptexp.data.account import DataAccount
from gptexp.data.corpora import Example
from gptexp.data.datasets.dataset import SequenceDataset
from gptexp.data.datasets.token_classification import TokenClassificationDataset
from gptexp.data.token_store import Cut, TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.model import SequenceLayout, Transformer
from gptexp.tasks.answerer import Answerer
from gptexp.tasks.layout import EvalExample, Layout, cut_beyond, sample_examples

OUTSIDE, FIRST, INSIDE = range(3)
TAG_NAMES = ("outside", "first", "inside")
TAGGED = "occurrences of terms are tagged"
WITHIN_WORD = "only within a longer word"
BEHIND_CUT = "occurrences of terms are behind the cut of their texts"
# Thai, Japanese, Chinese and Korean: a term is no whole word there.
UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
LETTER = rf"[^\W{UNSPACED}]"  # with which a word can go on

SPELLINGS: dict[str, Callable[[str], str]] = {  # of a term in its text, which hide it
    "in other capitals": str.casefold,
    "in another Unicode normal form (NFC, NFD)": lambda text: unicodedata.normalize("NFC", text),
    "with other white space": lambda text: " ".join(text.split()),
    "in another spelling of the same letters": lambda text: " ".join(
        unicodedata.normalize("NFKC", text).casefold().split()
    ),
}


class TermTags(Layout):
    """A text, and a tag for each of its tokens."""

    fields = ("source", "terms")
    predicts_next = targets_are_tokens = False

    def __init__(self, context: int) -> None:
        self.context = context

    def fingerprint(self) -> dict[str, Any]:
        return {"layout": "source tags", "context": self.context}

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        return [self._sequence(example, tokenizer) for example in examples]

    def _sequence(self, example: Example, tokenizer: Tokenizer) -> TokenizedExample | None:
        source, terms = example.fields["source"], split_terms(example.fields["terms"])
        spans = list(find_occurrences(source, terms))
        occurrences = {source[start:end] for start, end in spans}
        missing = {
            term: _explain_missing(term, source)
            for term in terms
            if not any(term in occurrence for occurrence in occurrences)
        }
        if missing and not spans and WITHIN_WORD not in missing.values():
            term, reason = next(iter(missing.items()))
            example.leave_out(f"no term of it is in its text: {reason}", term)
            return None
        tokens, offsets = tokenizer.encode_with_offsets(source)
        if not tokens:
            example.leave_out("the tokenizer has no token for its source", source)
            return None
        tags = [OUTSIDE] * len(tokens)
        notes = [(f"terms are not in their texts: {why}", term) for term, why in missing.items()]
        for start, end in spans:
            inside = [i for i, (left, right) in enumerate(offsets) if left < end and right > start]
            for i in inside:
                tags[i] = FIRST if i == inside[0] else INSIDE
            is_read = bool(inside) and inside[0] < self.context
            notes.append((TAGGED if is_read else BEHIND_CUT, source[start:end]))
        cuts = self._cuts(tokens)
        tokens, tags = tokens[: self.context], tags[: self.context]
        return TokenizedExample(
            [*tokens, *tags], prefix=len(tokens), targets=len(tokens), cuts=cuts, notes=tuple(notes)
        )

    def _cuts(self, tokens: list[int]) -> tuple[Cut, ...]:
        return cut_beyond(self.context, len(tokens), "source", f"model.context={self.context}")

    def prompt_cuts(self, input: str, tokenizer: Tokenizer) -> tuple[Cut, ...]:
        return self._cuts(tokenizer.encode(input))

    def objection(self, account: DataAccount) -> str:
        if TAGGED in account.notes:
            return ""
        if BEHIND_CUT in account.notes:
            return (
                f"model.context={self.context}: every term is behind the first {self.context} tokens of its text, "
                f"which are all that is read. Raise it, or give shorter texts"
            )
        notes = [
            f"{n.count:,} {note}, for example '{n.first}'" for note, n in account.notes.items()
        ]
        return f"no term is in its text, so nothing could be learned: {'; '.join(notes) or 'no example has a term'}"

    def target_name(self, target: int) -> str:
        return TAG_NAMES[target]

    def dataset(self, store: TokenStore, split: str, seed: int | None) -> SequenceDataset:
        return TokenClassificationDataset(store, split)

    def eval_examples(self, store: TokenStore, split: str, count: int) -> Iterator[EvalExample]:
        for example in sample_examples(store, split, count):
            yield EvalExample(example["source"], example["terms"])


class TagTerms(Answerer):
    """Tag the tokens of each text, and return its terms in their order, separated by semicolons."""

    def __init__(self, context: int) -> None:
        self.context = context

    @torch.inference_mode()
    def answer(self, model: Transformer, tokenizer: Tokenizer, inputs: list[str]) -> list[str]:
        encoded = [tokenizer.encode_with_offsets(text) for text in inputs]
        rows = [tokens[: self.context] or [tokenizer.eos] for tokens, _ in encoded]
        lengths = torch.tensor([len(row) for row in rows])
        padded = torch.tensor(
            [row + [tokenizer.pad] * (int(lengths.max()) - len(row)) for row in rows]
        )
        device = model.embedding.weight.device
        hidden = model(padded.to(device), SequenceLayout(lengths=lengths.to(device)))
        tags = model.head(hidden).argmax(dim=-1).tolist()
        return [
            "; ".join(dict.fromkeys(_widen(text, *span) for span in _spans(row, offsets)))
            for text, row, (_, offsets) in zip(inputs, tags, encoded, strict=True)
        ]


def find_occurrences(source: str, terms: list[str]) -> Iterator[tuple[int, int]]:
    """Yield the spans of terms that are whole words in a text, longer terms first and without overlap."""
    if terms:
        words = "|".join(map(_term_pattern, sorted(terms, key=len, reverse=True)))
        for match in re.finditer(words, source):
            yield match.span()


def _term_pattern(term: str) -> str:
    before = "" if re.match(f"[{UNSPACED}]", term) else f"(?<!{LETTER})"
    after = "" if re.match(f"[{UNSPACED}]", term[-1]) else f"(?!{LETTER})"
    return f"{before}{re.escape(term)}{after}"


def split_terms(text: str) -> list[str]:
    return [term for part in text.split(";") if (term := part.strip())]


def _explain_missing(term: str, source: str) -> str:
    """Return why a term does not occur in a text, as far as its spelling shows."""
    for change, normalize in SPELLINGS.items():
        if _occurs(normalize(term), _respell(source, change)):
            return f"written {change} there"
    parts = [part for part in re.split(r"[,|/\t\n]", term.casefold()) if part.strip()]
    lower = _respell(source, "in other capitals")
    if len(parts) > 1 and any(_occurs(part.strip(), lower) for part in parts):
        return "terms must be separated by ';'"
    return WITHIN_WORD if term in source else "absent"


@lru_cache(maxsize=8)  # a text has several terms
def _respell(source: str, change: str) -> str:
    return SPELLINGS[change](source)


def _occurs(term: str, source: str) -> bool:
    return any(True for _ in find_occurrences(source, [term]))


def _spans(tags: list[int], offsets: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the characters of each tagged term; the tags of padding, behind the last offset, do not count."""
    start = end = None
    for tag, (left, right) in zip(tags, offsets, strict=False):
        if tag != INSIDE and start is not None and end is not None:
            yield start, end
            start = None
        if tag == FIRST or (tag == INSIDE and start is None):
            start = left
        if tag != OUTSIDE:
            end = right
    if start is not None and end is not None:
        yield start, end


def _widen(text: str, start: int, end: int) -> str:
    """Return the characters of a span widened to whole words, without the punctuation of the sentence."""
    while start > 0 and re.match(LETTER * 2, text[start - 1 : start + 1]):
        start -= 1
    while end < len(text) and re.match(LETTER * 2, text[end - 1 : end + 1]):
        end += 1
    return text[start:end].strip().rstrip(".,:")
