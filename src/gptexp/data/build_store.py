"""Building a store: read, split, tokenise, encode and write a corpus, under a lock and renamed when whole.

Two runs may want it at once, and either may be killed.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock

from gptexp.config import schema
from gptexp.config.run_id import source_fingerprint
from gptexp.data import splits, tokenizers
from gptexp.data.corpora import Corpus, Example
from gptexp.data.progress import shown
from gptexp.data.token_store import INDEX, ExampleEncoder, TokenizedExample, TokenStore
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.files import cached_sha256, dumps_with_checksum, loads_checked, sha256

CHUNK, CHARACTERS = (
    256,
    1_000_000,
)  # encoded at once: at most so many examples, and about so much text


def build(
    corpus: Corpus,
    task: ExampleEncoder,
    data: schema.DataConfig,
    tokenizer: schema.TokenizerConfig,
    cache: Path,
    given: Tokenizer | None = None,
) -> TokenStore:
    """The store of this corpus for this task: opened where it exists, else built.

    Args:
        given: a trained tokenizer to use instead of what `tokenizer` asks for (that of the weights we start from).

    Raises:
        UserError: the corpus cannot be read, or a split comes out empty.
    """
    if isinstance(tokenizer, schema.HFTokenizerConfig) and given is None:
        given = tokenizers.build(
            tokenizer, []
        )  # nothing to train: what its name stands for today is known now
    content = {
        "corpus": corpus.describe(),
        "task": task.settings(),
        "split": [data.split, data.val_fraction, data.test_fraction, data.limit],
    }
    source = source_fingerprint(
        "data", "tasks"
    )  # edited code never finds what older code has encoded
    tokens = given.fingerprint() if given else asdict(tokenizer)
    folder = cache / "store" / _digest({**content, "tokenizer": tokens, "source": source})
    if not _is_whole(folder, cache):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not _is_whole(folder, cache):  # another run may have built it while we waited
                temporary = folder.with_suffix(".tmp")
                shutil.rmtree(temporary, ignore_errors=True)  # left by a run that was killed
                temporary.mkdir()
                try:
                    _write(temporary, corpus, content, task, data, tokenizer, given)
                except BaseException:
                    shutil.rmtree(temporary, ignore_errors=True)
                    raise
                shutil.rmtree(folder, ignore_errors=True)
                temporary.rename(folder)
    return TokenStore(folder)


def _is_whole(folder: Path, cache: Path) -> bool:
    """Whether a store is there, and is what was written; a damaged one is named, to be built again."""
    if not folder.is_dir():
        return False
    file = folder / "meta.json"
    try:
        meta = loads_checked(file.read_text())
        for name, expected in meta["files"].items():
            file = folder / name
            if cached_sha256(file, cache) != expected:
                raise ValueError("its content is not what was written")
    except (OSError, ValueError) as error:
        print(f"damaged token cache: {file}: {error}. It is built again", file=sys.stderr)
        return False
    return True


def _write(
    folder: Path,
    corpus: Corpus,
    content: dict[str, Any],
    task: ExampleEncoder,
    data: schema.DataConfig,
    tokenizer_config: schema.TokenizerConfig,
    given: Tokenizer | None,
) -> None:
    said: list[str | None] = []

    def texts() -> Iterator[tuple[str, str]]:
        for example in shown(_limited(corpus, data.limit, tells=True), "reading"):
            said.append(example.split)
            yield "\n".join(example.fields.values()), example.group_key

    fractions = {"val": data.val_fraction, "test": data.test_fraction}
    sides = splits.assign(
        texts(), "exact" if corpus.has_fixed_splits else data.split, fractions, said
    )
    if given is None:
        training = (
            text
            for example, side in zip(_limited(corpus, data.limit), sides, strict=True)
            if side == 0
            for text in example.fields.values()
        )
        tokenizer = tokenizers.build(tokenizer_config, shown(training, "training the tokenizer"))
    else:
        tokenizer = given
    tokenizer.save(folder / "tokenizer.json")
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    with ExitStack() as stack:
        writers = [
            stack.enter_context(_Writer(folder, name, dtype, task, tokenizer))
            for name in splits.SPLITS
        ]
        done = 0
        for chunk in _chunks(shown(_limited(corpus, data.limit), "encoding")):
            for number, example in enumerate(chunk, done):
                example.split = splits.SPLITS[sides[number]]
            for number, (encoded, example) in enumerate(
                zip(task.encode(chunk, tokenizer), chunk, strict=True), done
            ):
                writers[sides[number]].add(number, encoded, example)
            done += len(chunk)
        counts = {writer.split: writer.counts for writer in writers}
        feature_size = max(writer.feature_size for writer in writers)
    _check(counts, fractions, done)
    files = {file.name: sha256(file) for file in sorted(folder.iterdir())}
    media = {f"{split}.{kind}" for split in splits.SPLITS for kind in ("features", "media")}
    meta = {
        **content,
        # Without media: what espeak-ng says is not the same bytes twice. Their files' hashes are the corpus's.
        "fingerprint": _digest(
            {**content, "files": {name: files[name] for name in files if name not in media}}
        ),
        "content": _digest({**content, "sides": hashlib.sha256(sides.tobytes()).hexdigest()}),
        "dtype": dtype.str,
        "vocab_size": tokenizer.vocab_size,
        "feature_size": feature_size,
        "splits": counts,
        "files": files,
    }
    (folder / "meta.json").write_text(dumps_with_checksum(meta))


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _limited(corpus: Corpus, limit: int | None, tells: bool = False) -> Iterator[Example]:
    """The first `limit` examples that miss nothing, and all that the source holds out itself."""
    taken = empty = 0
    for example in corpus:
        if _is_empty(example):
            empty += 1
            continue
        if example.split in (None, "train"):
            taken += 1
            if limit is not None and taken > limit:
                continue
        yield example
    if tells and empty:
        print(f"{empty:,} examples are left out: a field of theirs is empty", file=sys.stderr)


def _is_empty(example: Example) -> bool:
    """Whether what is asked or what is learned is missing; a document without text ends as any other."""
    return "text" not in example.fields and not all(
        text.strip() for text in example.fields.values()
    )


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    chunk: list[Example] = []
    characters = 0
    for example in examples:
        chunk.append(example)
        characters += sum(map(len, example.fields.values()))
        if len(chunk) == CHUNK or characters >= CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


class _Writer:
    """Appends the sequences of one split."""

    def __init__(
        self, folder: Path, split: str, dtype: np.dtype, task: ExampleEncoder, tokenizer: Tokenizer
    ) -> None:
        self.split, self.dtype, self.task, self.tokenizer = split, dtype, task, tokenizer
        self.counts = {"sequences": 0, "tokens": 0, "targets": 0, "bytes": 0, "unknown_bytes": 0}
        self.goes_on_at: int | None = (
            None  # number of the example that goes on with an open document
        )
        self.tokens = (folder / f"{split}.tokens").open("wb")
        self.index = (folder / f"{split}.index").open("wb")
        self.raw = (folder / f"{split}.jsonl").open("w", encoding="utf8")
        self.features, self.media = (
            (folder / f"{split}.{name}").open("wb") for name in ("features", "media")
        )
        self.rows = self.feature_size = 0

    def add(self, number: int, encoded: TokenizedExample | None, example: Example) -> None:
        if encoded is None:
            return
        counts = self.counts
        if self.goes_on_at not in (None, number):
            self._end_document()  # its next piece is in another split
        self.goes_on_at = None if example.ends_document else number + 1
        length = len(encoded.tokens)
        self.tokens.write(np.array(encoded.tokens, self.dtype).tobytes())
        if not self.task.stream:
            rows = 0 if encoded.features is None else len(encoded.features)
            entry = (counts["tokens"], length, encoded.prefix, encoded.targets, self.rows, rows)
            self.index.write(np.array(entry, INDEX).tobytes())
            if self.split != "train":
                self.raw.write(json.dumps(example.fields) + "\n")
        if encoded.features is not None and example.media is not None:
            self.feature_size = encoded.features.shape[1]
            self.features.write(encoded.features.tobytes())
            self.rows += len(encoded.features)
            if self.split != "train":
                np.save(self.media, example.media())
        counts["sequences"] += 1
        counts["tokens"] += length
        counts["targets"] += encoded.targets
        learned = example.fields[self.task.fields[-1]]
        counts["bytes"] += len(learned.encode())
        counts["unknown_bytes"] += self.tokenizer.unknown_bytes(learned, encoded.tokens)

    def _end_document(self) -> None:
        self.tokens.write(np.array([self.tokenizer.eos], self.dtype).tobytes())
        self.counts["tokens"] += 1
        self.counts["targets"] += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.goes_on_at is not None:
            self._end_document()
        for file in (self.tokens, self.index, self.raw, self.features, self.media):
            file.close()


def _check(counts: dict[str, dict[str, int]], fractions: dict[str, float], examples: int) -> None:
    for split in splits.SPLITS:
        if counts[split]["sequences"] == 0 and (split == "train" or fractions.get(split, 0) > 0):
            raise UserError(
                f"the {split} split is empty: the source gives {examples} examples (those about one source or picture "
                f"stay together, with data.split=near also those that are alike). Give more text, or change data.split "
                f"(tail cuts by place), data.val_fraction, data.test_fraction"
            )
