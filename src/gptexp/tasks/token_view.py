"""Show the sequences of a split as a model sees them: tokens, targets, and the positions that carry a loss."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import decoders

from gptexp.data.batch import FEATURE, IGNORE, Batch
from gptexp.data.token_store import TokenStore
from gptexp.data.tokenizers import NumericTokenizer, Tokenizer
from gptexp.tasks.layout import Layout

if TYPE_CHECKING:
    from gptexp.tasks.prepare import TaskData

HEAD, TAIL = 48, 32  # tokens of a long sequence that are shown
MAX_PLACES = 1 << 20  # of a split; a mixture has no end
MAX_CHARACTERS = 300  # of an input or a target
COLOURS = {"prompt": "2", "loss": "32", "special": "35"}  # of ANSI terminals
FEATURES = "features"  # text of a row of features
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
ESCAPES = CONTROL | str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t"})


@dataclass(frozen=True)
class TokenView:
    """A token, and the target that it, or the position before it, is scored on."""

    text: str
    target: str | None  # None: no loss
    is_special: bool = False


@dataclass(frozen=True)
class SequenceView:
    split: str
    number: int  # of the example in its split
    tokens: list[TokenView]
    input: str
    targets: str
    label: str | None = None  # class of the sequence

    def text(self, colour: bool) -> str:
        """Return the sequence as lines for a terminal."""
        carrying = sum(token.target is not None for token in self.tokens)
        lines = [
            f"{self.split} {self.number:,}: {len(self.tokens):,} tokens, {carrying:,} carry a loss",
            f"  input    {_shorten(self.input)}",
        ]
        if self.targets:
            lines.append(f"  target   {_shorten(self.targets)}")
        if self.label is not None:
            lines.append(f"  class    {self.label}")
        return "\n".join([*lines, f"  tokens   {self._tokens_text(colour)}"])

    def _tokens_text(self, colour: bool) -> str:
        tokens = list(_merge_features(self.tokens))
        if len(tokens) <= HEAD + TAIL:
            return _join(tokens, colour)
        skipped = len(tokens) - HEAD - TAIL
        parts = _join(tokens[:HEAD], colour), _join(tokens[-TAIL:], colour)
        return f" ... {skipped:,} more tokens ... ".join(parts)


def view_sequences(data: "TaskData", split: str, count: int, seed: int) -> Iterator[SequenceView]:
    """Yield `count` sequences, or pairs of them, from evenly spaced places of a split, as in the first epoch."""
    layout, tokenizer = data.task.layout, data.store.tokenizer
    dataset = layout.dataset(data.store, split, seed if split == "train" else None)
    total = min(len(dataset), MAX_PLACES)
    for index in np.linspace(0, total - 1, num=min(count, total), dtype=np.int64):
        batch = dataset.batch(index[None], 0, index[None])
        for sequence in batch.sides():
            yield _view_sequence(sequence, layout, tokenizer, split, int(index))


def view_example(layout: Layout, store: TokenStore, split: str) -> list[SequenceView]:
    """Return the sequence of the first example of a split, which is not packed with others, or those of a pair."""
    index = np.zeros(1, np.int64)
    batch = layout.dataset(store, split, None).batch(index, 0, index)
    sequences = batch.sides()
    return [_view_sequence(sequence, layout, store.tokenizer, split, 0) for sequence in sequences]


def _view_sequence(
    batch: Batch, layout: Layout, tokenizer: Tokenizer, split: str, number: int
) -> SequenceView:
    length = int(batch.lengths[0]) if batch.lengths is not None else batch.tokens.shape[1]
    if batch.positions is not None:  # packed: the rest of the sequence is padding
        length = int((batch.tokens[0] != tokenizer.pad).nonzero().max()) + 1
    tokens, targets = batch.tokens[0, :length].tolist(), batch.targets[0, :length].tolist()
    names = [_target_name(target, layout, tokenizer) for target in targets]
    prefix = int(batch.prefix[0]) if batch.prefix is not None else length
    input_ids, target_ids = tokens, [target for target in targets if target != IGNORE]
    if layout.predicts_next:  # a token is scored at the position before it
        names = [None, *names]
        tokens = [*tokens, targets[-1]] if targets[-1] != IGNORE else tokens
        input_ids = tokens[:prefix] if batch.prefix is not None else tokens
    views = [
        TokenView(token_text(token, tokenizer), name, _is_special(token, tokenizer))
        for token, name in zip(tokens, names, strict=False)
    ]
    return SequenceView(
        split,
        number,
        views,
        _text([token for token in input_ids if token != FEATURE], tokenizer),
        _text(target_ids, tokenizer) if layout.targets_are_tokens else "",
        None if batch.labels is None else layout.label_name(int(batch.labels[0])),
    )


def _target_name(target: int, layout: Layout, tokenizer: Tokenizer) -> str | None:
    """Return a target as it can be read; None where there is no loss."""
    if target == IGNORE:
        return None
    return (
        token_text(target, tokenizer) if layout.targets_are_tokens else layout.target_name(target)
    )


def token_text(token: int, tokenizer: Tokenizer) -> str:
    """Return a token as it can be read: its text in byte-level vocabularies, or else the entry of the vocabulary."""
    if token == FEATURE:
        return FEATURES
    if isinstance(tokenizer, NumericTokenizer):
        return str(token)
    entry = tokenizer.backend.id_to_token(token)
    if entry is None or _is_special(token, tokenizer):
        return entry or f"token {token}"
    if isinstance(tokenizer.backend.decoder, decoders.ByteLevel):
        text = tokenizer.decode([token])
        return entry if "\ufffd" in text else text  # a part of a character
    return entry


def _text(tokens: list[int], tokenizer: Tokenizer) -> str:
    if isinstance(tokenizer, NumericTokenizer):
        return tokenizer.decode(tokens)
    return tokenizer.backend.decode(tokens, skip_special_tokens=False)


def _is_special(token: int, tokenizer: Tokenizer) -> bool:
    if token in (FEATURE, tokenizer.eos, tokenizer.pad, tokenizer.sep, tokenizer.mask):
        return True
    if isinstance(tokenizer, NumericTokenizer):
        return False
    entry = tokenizer.backend.id_to_token(token)
    return entry is not None and tokenizer.special_text.fullmatch(entry) is not None


def _merge_features(tokens: list[TokenView]) -> Iterator[TokenView]:
    """Yield each token, and equal rows of features as one, with their number."""
    for token, group in groupby(tokens):
        repeats = len(list(group))
        if token.text == FEATURES:
            yield replace(token, text=f"<{repeats} x {FEATURES}>")
        else:
            yield from [token] * repeats


def _join(tokens: list[TokenView], colour: bool) -> str:
    """Join tokens by bars, in colours or with those that carry a loss in brackets."""
    parts = []
    for carries_loss, group in groupby(tokens, key=lambda token: token.target is not None):
        joined = "|".join(_piece(token, colour) for token in group)
        parts.append(f"[[{joined}]]" if carries_loss and not colour else joined)
    return "|".join(parts)


def _piece(token: TokenView, colour: bool) -> str:
    """Return a token, and its target where that is another."""
    text = token.text.translate(ESCAPES)
    if token.target not in (None, token.text):
        text += f" => {str(token.target).translate(ESCAPES)}"
    if not colour:
        return text
    role = "special" if token.is_special else "prompt" if token.target is None else "loss"
    return f"\033[{COLOURS[role]}m{text}\033[0m"


def _shorten(text: str) -> str:
    text = text.translate(ESCAPES)
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]} ... {text[-half:]}"
