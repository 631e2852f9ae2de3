"""A token store that consists of token files of other programs, which stay where they are.

The tokenizer of the run says what their numbers mean. Files with `val` or `test` as a word of their name are these
splits. A split without a file is the end of the train files, data.val_fraction or data.test_fraction of them.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.config.schema.data import TOKEN_EXTENSIONS
from gptexp.data.account import DataAccount
from gptexp.data.corpora.corpus import SPLIT_NAMES, SPLITS
from gptexp.data.corpora.find_files import find_files
from gptexp.data.foreign.character_table import load_character_table
from gptexp.data.foreign.formats import open_token_file
from gptexp.data.foreign.survey import Survey
from gptexp.data.foreign.tokens import ForeignTokens, size_of_files
from gptexp.data.progress import track_progress
from gptexp.data.token_store import INDEX_DTYPE, ExampleEncoder, TokenStore
from gptexp.data.tokenizers import Tokenizer, build
from gptexp.errors import UserError
from gptexp.files import read_json_object, short_hash, write_text
from gptexp.wording import shorten

SAMPLED_BLOCKS = 512  # of all files together; at least two of each
SHOWN_TOKENS, MAX_SHOWN_CHARACTERS = 32, 60
DECODED_TOKENS = 1 << 16  # at once
MAX_DECODED_PIECES = 64  # of a held-out split, to count its bytes
MAX_DOCUMENT_TOKENS = 1 << 20  # that a split may lose to end with a document


class ForeignStore(TokenStore):
    """Token files of other programs, as a store of one stream a split."""

    def __init__(
        self,
        folder: Path,
        meta: dict[str, Any],
        tokenizer: Tokenizer,
        splits: dict[str, ForeignTokens],
    ) -> None:
        self.folder, self.is_new = folder, False
        self.meta, self.tokenizer, self.splits = meta, tokenizer, splits

    def tokens(self, split: str) -> ForeignTokens:
        return self.splits[split]

    def index(self, split: str) -> NDArray:
        return np.empty(0, INDEX_DTYPE)

    def features(self, split: str) -> NDArray[np.uint8]:
        return np.empty((0, 1), np.uint8)

    def examples(self, split: str) -> Iterator[dict[str, Any]]:
        return iter(())


def open_foreign_store(
    data: schema.TokensConfig,
    encoder: ExampleEncoder,
    tokenizer_config: schema.TokenizerConfig,
    cache: Path,
    tokenizer: Tokenizer | None = None,
) -> ForeignStore:
    """Open token files of other programs as a store.

    Args:
        tokenizer: that of the initial weights; it replaces `tokenizer_config`.

    Raises:
        UserError: the task needs texts, a file is damaged or of an unknown format, or the numbers are not those of the
            tokenizer.
    """
    word = f"data.path={data.path}"
    if encoder.fingerprint() != {"layout": "text eos"}:
        raise UserError(
            f"{word}: token files are for task=pretrain, without task.answers and task.lead_last_fraction. Other tasks "
            f"need the texts: data=files or data=hub"
        )
    paths = find_token_files(data.path)
    if tokenizer is None:
        data.check_tokenizer(tokenizer_config)
        is_table = isinstance(tokenizer_config, schema.CharConfig)
        tokenizer = (
            load_character_table(data.character_table) if is_table else build(tokenizer_config, [])
        )
    files = [open_token_file(path, tokenizer.vocab_size, data.dtype) for path in paths]
    files = [file for file in files if file.count]
    if not files:
        raise UserError(f"{word}: the token files are empty")
    surveys = [Survey(file, tokenizer, SAMPLED_BLOCKS // len(files)) for file in files]
    by_split = _group_by_split(surveys, data.path)
    splits = {split: _join(parts, tokenizer) for split, parts in by_split.items()}
    remarks = [
        _describe(split, by_split[split], tokens, tokenizer) for split, tokens in splits.items()
    ]
    remarks += _collect_remarks(surveys)
    remarks += _cut_held_out(
        splits, {"test": data.test_fraction, "val": data.val_fraction}, tokenizer.eos
    )
    content = {
        "corpus": {
            "source": "token files",
            "parts": {
                split: [survey.describe() for survey in by_split[split]] for split in by_split
            },
        },
        "task": encoder.fingerprint(),
        "split": ["tail", data.val_fraction, data.test_fraction, None],
    }
    fingerprint = short_hash(json.dumps([content, tokenizer.fingerprint()]))
    account = DataAccount(len(files), unit="file", remarks=remarks)
    account.splits = {split: len(parts) for split, parts in by_split.items()}
    meta = {
        **content,
        "fingerprint": fingerprint,
        "content": fingerprint,
        "dtype": splits["train"].dtype.str,
        "vocab_size": tokenizer.vocab_size,
        "feature_size": 0,
        "splits": _counts(
            splits, by_split, tokenizer, cache / "token-files" / f"{fingerprint}.json"
        ),
        "account": account.as_json(),
        "files": {},
    }
    return ForeignStore(Path(data.path), meta, tokenizer, splits)


def find_token_files(path: str) -> list[Path]:
    """Return the token files of a folder or a pattern, or the file itself, in the order of their names.

    Raises:
        UserError: there is none.
    """
    files = find_files(path, "data.path")
    if len(files) > 1 or Path(path).is_dir():  # beside them lie indexes and descriptions
        files = [file for file in files if file.suffix in TOKEN_EXTENSIONS]
        if not files:
            raise UserError(
                f"data.path={path}: no file there ends in {', '.join(TOKEN_EXTENSIONS)}, and no meta.json says that it "
                f"is a token store"
            )
    return files


def _group_by_split(surveys: list[Survey], path: str) -> dict[str, list[Survey]]:
    """Return the files of each split, by their names below the path of the data.

    Raises:
        UserError: none of several files is to be trained on.
    """
    folders = [path] if os.path.isdir(path) else [survey.file.path.parent for survey in surveys]
    root = Path(os.path.commonpath(folders))
    groups: dict[str, list[Survey]] = {}
    for survey in surveys:
        groups.setdefault(split_by_name(survey.file.path, root), []).append(survey)
    if "train" in groups:
        return groups
    if not os.path.isfile(path):
        file = surveys[0].file.path
        raise UserError(
            f"data.path={path}: none of its files is to be trained on, by their names they are "
            f"{' and '.join(groups)}. A file that is named alone is trained on: "
            f"{shlex.quote(f'data.path={file}')}"
        )
    return {"train": surveys}


def split_by_name(path: Path, root: Path) -> str:
    """Return the split that a word in the name of a file below `root`, or of a folder between them, stands for."""
    words = re.findall("[a-z]+", str(path.relative_to(root).with_suffix("")).lower())
    return next((SPLIT_NAMES[word] for word in reversed(words) if word in SPLIT_NAMES), "train")


def _join(surveys: list[Survey], tokenizer: Tokenizer) -> ForeignTokens:
    """Return the tokens of the files of a split."""
    counts = [survey.file.count for survey in surveys]
    starts = np.cumsum([0, *counts[:-1]])
    ends = [survey.ends + start for survey, start in zip(surveys, starts, strict=True)]
    files = [survey.file for survey in surveys]
    return ForeignTokens(files, size_of_files(tokenizer), tokenizer.eos, np.concatenate(ends))


def _describe(
    split: str, surveys: list[Survey], tokens: ForeignTokens, tokenizer: Tokenizer
) -> str:
    """Return the number of tokens of a split, with the text of the first ones: with another tokenizer, it is none."""
    formats = " and ".join(dict.fromkeys(survey.file.format for survey in surveys))
    first = surveys[0].file.path.name
    names = first if len(surveys) == 1 else f"{len(surveys)} files from {first} on"
    text = shorten(tokenizer.decode(tokens[:SHOWN_TOKENS].tolist()), MAX_SHOWN_CHARACTERS)
    return f"{split}: {len(tokens):,} tokens of {names}, in the format of {formats}, which begin with {text}"


def _collect_remarks(surveys: list[Survey]) -> list[str]:
    """Return each remark once, with the number of files that it is about."""
    names: dict[str, list[str]] = {}
    for survey in surveys:
        if survey.remark:
            names.setdefault(survey.remark, []).append(survey.file.path.name)
    return [
        f"{files[0] if len(files) == 1 else f'{files[0]} and {len(files) - 1} more'}: {remark}"
        for remark, files in names.items()
    ]


def _cut_held_out(
    splits: dict[str, ForeignTokens], fractions: dict[str, float], eos: int
) -> list[str]:
    """Take the splits without a file from the end of the train split, and return sentences about them."""
    total = len(splits["train"])
    remarks = []
    for split, fraction in fractions.items():
        if split in splits or not int(total * fraction):
            continue
        train = splits["train"]
        start = _end_of_document(train, max(1, len(train) - int(total * fraction)), eos)
        splits[split] = train.select(start, len(train))
        splits["train"] = train.select(0, start)
        remarks.append(
            f"{split}: the last {len(train) - start:,} tokens of the train files (data.{split}_fraction={fraction})"
        )
    return remarks


def _end_of_document(tokens: ForeignTokens, position: int, eos: int) -> int:
    """Return the first position from `position` on at which a document ends.

    It is `position` itself where none ends near, or where less than half of the tokens behind it would be left.
    """
    ends = np.flatnonzero(tokens[position - 1 : position + MAX_DOCUMENT_TOKENS] == eos)
    has_enough = len(ends) and 2 * ends[0] <= len(tokens) - position
    return position + int(ends[0]) if has_enough else position


def _counts(
    splits: dict[str, ForeignTokens],
    by_split: dict[str, list[Survey]],
    tokenizer: Tokenizer,
    file: Path,
) -> dict[str, dict[str, int]]:
    """Return the counts of each split, as meta.json of a store has them.

    The bytes of the texts are those that the tokens of a held-out split decode to. They are kept in `file`.
    """
    held_out = [split for split in splits if split != "train"]
    try:
        sizes = read_json_object(file)
    except (OSError, ValueError):
        sizes = {split: _count_bytes(splits[split], tokenizer, split) for split in held_out}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(sizes))
    return {
        split: {
            "sequences": len(by_split.get(split, [0]))
            if split in splits and len(splits[split])
            else 0,
            "tokens": len(splits[split]) if split in splits else 0,
            "targets": len(splits[split]) if split in splits else 0,
            "bytes": sizes.get(split, 0),
            "lost_bytes": 0,
        }
        for split in SPLITS
    }


def _count_bytes(tokens: ForeignTokens, tokenizer: Tokenizer, split: str) -> int:
    """Return the bytes that the tokens decode to; of a large split, an estimate from pieces spread evenly over it."""
    pieces = -(-len(tokens) // DECODED_TOKENS)
    count = min(pieces, MAX_DECODED_PIECES)
    starts = np.arange(count) * pieces // count * DECODED_TOKENS
    num_bytes = num_tokens = 0
    for start in track_progress(starts.tolist(), f"decoding the {split} split", "pieces", count):
        piece = tokens[start : start + DECODED_TOKENS]
        num_bytes += len(tokenizer.decode(piece.tolist()).encode())
        num_tokens += len(piece)
    return round(num_bytes * len(tokens) / num_tokens)
