"""A look at samples of a token file before a run starts: do its numbers and its documents fit the tokenizer?"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.data.foreign.formats import PLAIN_FORMATS, TokenFile, damaged
from gptexp.data.foreign.tokens import size_of_files, unknown_token
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError

SAMPLED_TOKENS = 4096  # of a block
SAMPLED_DOCUMENTS = 256  # of a file


class Survey:
    """A look at blocks of a token file, and at the ends of its documents.

    Attributes:
        digest: hash of the blocks.
        ends: positions at which documents end without an end-of-text token; none where they have one, or where the
            format does not say where they end.
        remark: a sentence about end-of-text tokens, or "".

    Raises:
        UserError: a number is not in the vocabulary of the tokenizer.
    """

    def __init__(self, file: TokenFile, tokenizer: Tokenizer, blocks: int) -> None:
        self.file, self.remark = file, ""
        tokens = file.map_tokens()
        last = max(0, file.count - SAMPLED_TOKENS) & ~1
        blocks = min(max(2, blocks), file.count // SAMPLED_TOKENS + 1)
        starts = np.linspace(0, last, blocks, dtype=np.int64) & ~1
        sample = np.concatenate([tokens[start : start + SAMPLED_TOKENS] for start in starts])
        self.digest = hashlib.sha256(sample.tobytes()).hexdigest()[:16]
        _check_numbers(file, sample, size_of_files(tokenizer))
        self.ends = np.empty(0, np.int64)
        if file.documents:
            self._look_at_ends(tokens, tokenizer)
        elif tokenizer.eos not in sample:
            self.remark = (
                f"no sampled token is the tokenizer's end-of-text token, {tokenizer.eos}: the file is read as one "
                f"document"
            )

    def _look_at_ends(self, tokens: NDArray, tokenizer: Tokenizer) -> None:
        file = self.file
        assert file.documents is not None
        numbers = np.linspace(
            0, file.documents - 1, min(file.documents, SAMPLED_DOCUMENTS), dtype=np.int64
        )
        ends = self._read_ends(numbers)
        last = tokens[np.maximum(ends - 1, 0)]
        if tokenizer.eos in last:
            return
        if (last == last[0]).all() and not tokenizer.decode([int(last[0])]):
            self.remark = f"documents end with token {last[0]}, not with the end-of-text token, {tokenizer.eos}"
            return
        self.ends = self._read_ends(np.arange(file.documents))
        self.remark = "documents end without an end-of-text token: one is read behind each"

    def _read_ends(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ends of some documents, after checking that they follow each other to the end of the file."""
        ends = self.file.document_ends(numbers)
        if ends[-1] != self.file.count or (np.diff(ends) < 0).any():
            raise damaged(self.file.path, "its index has document ends that do not fit its tokens")
        return ends

    def describe(self) -> list[Any]:
        file = self.file
        return [file.path.name, file.format, file.dtype.str, file.count, self.digest]


def _check_numbers(file: TokenFile, sample: NDArray, vocab_size: int) -> None:
    outside = (sample < 0) | (sample >= vocab_size)
    if not outside.any() and (
        file.dtype.itemsize != 2 or file.format not in PLAIN_FORMATS or sample[1::2].any()
    ):
        return
    other = np.dtype("<u2" if file.dtype.itemsize == 4 else "<u4")
    as_other = sample[: len(sample) // 2 * 2].view(other)
    if file.format in PLAIN_FORMATS and len(as_other) and as_other.max() < vocab_size:
        raise UserError(
            f"{file.path}: its numbers are not those of the tokenizer if they are {file.dtype.name}, and they are if "
            f"{other.name}. Add data.dtype={other.name}"
        )
    if outside.any():
        raise unknown_token(file, int(sample[np.argmax(outside)]), None, vocab_size)
