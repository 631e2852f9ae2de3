"""Build a token store: read a corpus, assign its splits, train a tokenizer, and write the encoded sequences.

Several runs may want the same store at once, and each may be killed: a store is built under a lock and appears complete
or not at all.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from gptexp.config import schema
from gptexp.config.signature import split_target
from gptexp.config.source import outside_fingerprint, source_fingerprint
from gptexp.data import tokenizers
from gptexp.data.account import DataAccount
from gptexp.data.corpora import Corpus, Example
from gptexp.data.corpora.corpus import SPLITS
from gptexp.data.duplicates import normalized_hash
from gptexp.data.progress import track_progress
from gptexp.data.shards import ShardWriter, digest_shards
from gptexp.data.splits import TRAIN, assign_splits
from gptexp.data.token_store import (
    INDEX_DTYPE,
    DamagedStoreError,
    ExampleEncoder,
    TokenizedExample,
    TokenStore,
    verify_files,
)
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.files import atomic_folder, dumps_with_checksum, sha256, short_hash

MAX_CHUNK_EXAMPLES = 256  # a chunk of examples is encoded at once
MAX_CHUNK_CHARACTERS = 1_000_000
HELD_OUT_ELSEWHERE = "another source of the mixture holds the same text out"


def build_store(
    corpus: Corpus,
    encoder: ExampleEncoder,
    data: schema.DataConfig,
    tokenizer_config: schema.TokenizerConfig,
    cache: Path,
    tokenizer: Tokenizer | None = None,
    elsewhere: NDArray[np.uint64] | None = None,
) -> TokenStore:
    """Open the store of this corpus, encoder and tokenizer; build it first if there is none or it is damaged.

    Args:
        tokenizer: a trained tokenizer, that of the initial weights; it replaces `tokenizer_config`.
        elsewhere: hashes of training texts that another source of the mixture holds out; they are left out.

    Raises:
        UserError: the corpus cannot be read, or a split comes out empty.
    """
    if isinstance(tokenizer_config, schema.HFTokenizerConfig) and tokenizer is None:
        # Needs no training: load it now, so that the key covers its content and not only its name.
        tokenizer = encoder.extend_tokenizer(tokenizers.build(tokenizer_config, []))
    content = {
        "corpus": corpus.describe(),
        "task": encoder.fingerprint(),
        "split": [data.split, data.val_fraction, data.test_fraction, data.limit],
    }
    if elsewhere is not None and len(elsewhere):
        content["held out elsewhere"] = hashlib.sha256(elsewhere.tobytes()).hexdigest()
    key = {
        **content,
        "tokenizer": tokenizer.fingerprint() if tokenizer else asdict(tokenizer_config),
        "source": source_fingerprint("data", "tasks"),  # edited code builds a new store
    }
    outside = outside_fingerprint(
        [
            type(corpus).__module__,
            type(encoder).__module__,
            split_target(tokenizer_config.target)[0],
        ]
    )
    if outside:
        key["outside"] = [outside, asdict(data)]
    folder = cache / "store" / _digest(key)
    is_new = False
    if not _is_valid(folder, cache):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not _is_valid(folder, cache):  # another run may have built it while this one waited
                with atomic_folder(folder) as temporary:
                    _write_store(
                        temporary,
                        corpus,
                        encoder,
                        data,
                        tokenizer_config,
                        tokenizer,
                        content,
                        elsewhere,
                    )
                is_new = True
    return TokenStore(folder, is_new)


def _is_valid(folder: Path, cache: Path) -> bool:
    """Return whether the store exists with all files as they were written. Report a damaged file on stderr."""
    if not folder.is_dir():
        return False
    try:
        verify_files(folder, cache)
    except DamagedStoreError as error:
        print(f"damaged token cache: {error}. It is built again", file=sys.stderr)
        return False
    return True


def _write_store(
    folder: Path,
    corpus: Corpus,
    encoder: ExampleEncoder,
    data: schema.DataConfig,
    tokenizer_config: schema.TokenizerConfig,
    tokenizer: Tokenizer | None,
    content: dict[str, Any],
    elsewhere: NDArray[np.uint64] | None,
) -> None:
    """Write all files of a store; three passes over the corpus, two where the tokenizer needs no training."""
    account = DataAccount()
    assigned = split_corpus(corpus, data, account)
    if tokenizer is None:
        texts = training_texts(corpus, data.limit, assigned, elsewhere)
        texts = track_progress(texts, "training the tokenizer", "texts")
        tokenizer = encoder.extend_tokenizer(tokenizers.build(tokenizer_config, texts))
    tokenizer.save(folder / "tokenizer.json")
    token_dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    with ExitStack() as stack:
        writers = [
            stack.enter_context(SplitWriter(folder, split, token_dtype, encoder, tokenizer))
            for split in SPLITS
        ]
        usable = usable_examples(corpus, data.limit)
        examples = track_progress(usable, "encoding", total=len(assigned))
        encode_examples(
            _assign(examples, assigned, elsewhere), encoder, tokenizer, writers, account
        )
    account.finish(encoder.fields)
    if objection := encoder.objection(account):
        raise UserError(objection)
    counts = {writer.split: writer.counts for writer in writers}
    _check_no_split_is_empty(counts, _fractions(data), account)
    files: dict[str, str] = {}
    for writer in writers:
        files |= digest_shards(folder, writer.split, writer.tokens.shards)
    files |= {file.name: sha256(file) for file in folder.iterdir() if file.name not in files}
    # The fingerprint leaves media files out: espeak-ng writes other bytes each time, and `content` has the hashes of
    # the user's own files. It leaves out the digests of shards, which have their hashes.
    left_out = {f"{split}.{kind}" for split in SPLITS for kind in ("features", "media", "sums")}
    text_files = {name: digest for name, digest in files.items() if name not in left_out}
    meta = {
        **content,
        "fingerprint": _digest({**content, "files": text_files}),
        "content": _digest({**content, "sides": hashlib.sha256(assigned.tobytes()).hexdigest()}),
        "dtype": token_dtype.str,
        "vocab_size": tokenizer.vocab_size,
        "feature_size": max(writer.feature_size for writer in writers),
        "splits": counts,
        "shards": {writer.split: writer.tokens.shards for writer in writers},
        "account": account.as_json(),
        "files": files,
    }
    (folder / "meta.json").write_text(dumps_with_checksum(meta))


def split_corpus(
    corpus: Corpus, data: schema.DataConfig, account: DataAccount
) -> NDArray[np.uint8]:
    """Return the split of each usable example, as an index into SPLITS; the account counts what is read."""
    examples = track_progress(usable_examples(corpus, data.limit, account), "reading")
    return assign_splits(
        (("\n".join(e.texts), e.group_key, e.split) for e in examples),
        "exact" if corpus.has_fixed_splits else data.split,
        _fractions(data),
        account,
    )


def _fractions(data: schema.DataConfig) -> dict[str, float]:
    return {"val": data.val_fraction, "test": data.test_fraction}


def _assign(
    examples: Iterable[Example], assigned: NDArray[np.uint8], elsewhere: NDArray[np.uint64] | None
) -> Iterator[Example]:
    """Yield the examples with the names of their splits, and mark those that another source holds out."""
    hashes = set() if elsewhere is None else set(elsewhere.tolist())
    for example, split in zip(examples, assigned, strict=True):
        example.split = SPLITS[split]
        if hashes and split == TRAIN and hash_example(example) in hashes:
            example.left_out = HELD_OUT_ELSEWHERE
        yield example


def hash_example(example: Example) -> int:
    """Return a number that is equal for examples whose texts differ in white space and capitals only."""
    return int.from_bytes(normalized_hash("\n".join(example.texts)), "little")


def encode_examples(
    examples: Iterable[Example],
    encoder: ExampleEncoder,
    tokenizer: Tokenizer,
    writers: list["SplitWriter"],
    account: DataAccount,
) -> None:
    """Encode each example and append it to the files of its split. Count those that the task cannot use.

    Args:
        examples: usable ones, each with its split.
        writers: one for each of SPLITS, in their order.
    """
    first = 0  # number of the chunk's first example
    for chunk in _chunks(examples):
        with tokenizer.remember() as tokens_of:
            encoded = encoder.encode(chunk, tokenizer)
        for number, (sequence, example) in enumerate(zip(encoded, chunk, strict=True), first):
            if sequence is None or example.left_out:
                account.leave_out(example.left_out or "the task cannot use it", example.where)
                continue
            split = example.split or "train"
            lost_bytes = account.add(
                example,
                sequence,
                split,
                encoder.fields,
                encoder.learned_fields,
                tokenizer,
                tokens_of,
            )
            writers[SPLITS.index(split)].add(number, sequence, example, lost_bytes)
        first += len(chunk)


def training_texts(
    corpus: Corpus,
    limit: int | None,
    assigned: NDArray[np.uint8],
    elsewhere: NDArray[np.uint64] | None = None,
) -> Iterator[str]:
    """Yield the texts of the usable examples that are trained on."""
    for example in _assign(usable_examples(corpus, limit), assigned, elsewhere):
        if example.split == "train" and not example.left_out:
            yield from example.texts


def usable_examples(
    corpus: Corpus, limit: int | None, account: DataAccount | None = None
) -> Iterator[Example]:
    """Yield the examples that can be used: the first `limit` that can be trained on, and all held-out ones.

    Args:
        account: counts all examples and the reasons of those that are left out.
    """
    num_train = 0
    for example in corpus:
        reason = example.left_out or _empty_field(example)
        if not reason and example.split in (None, "train"):
            num_train += 1
            if limit is not None and num_train > limit:
                reason = f"it is beyond data.limit={limit}"
        if account is not None:
            account.examples += 1
            if not example.fields.keys().isdisjoint(("conversation", "chosen")):
                account.group_name = "system prompt and first question"
            if reason:
                account.leave_out(reason, example.where)
        if not reason:
            yield example


def _empty_field(example: Example) -> str:
    """Return which field is empty, as a reason; "": none. A plain text may be: an empty document ends as any other."""
    if "text" not in example.fields:
        for name, text in example.fields.items():
            if not text.strip():
                return f"the field '{name}' is empty"
    return ""


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    chunk: list[Example] = []
    characters = 0
    for example in examples:
        chunk.append(example)
        characters += sum(map(len, example.fields.values()))
        if len(chunk) == MAX_CHUNK_EXAMPLES or characters >= MAX_CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


class SplitWriter:
    """Appends the sequences of one split to its files, and counts them."""

    def __init__(
        self,
        folder: Path,
        split: str,
        token_dtype: np.dtype,
        encoder: ExampleEncoder,
        tokenizer: Tokenizer,
    ) -> None:
        self.split = split
        self.encoder, self.tokenizer = encoder, tokenizer
        self.counts = {"sequences": 0, "tokens": 0, "targets": 0, "bytes": 0, "lost_bytes": 0}
        self.num_feature_rows = self.feature_size = 0
        # Number of the example that continues the open document; None: no document is open.
        self.continued_by: int | None = None
        self.tokens = ShardWriter(folder, split, token_dtype)
        self.index = (folder / f"{split}.index").open("wb")
        self.learned = BitWriter(folder / f"{split}.learned")
        self.features = (folder / f"{split}.features").open("wb")
        self.media = (folder / f"{split}.media").open("wb")
        self.fields = (folder / f"{split}.jsonl").open("w", encoding="utf8")

    def add(
        self, number: int, encoded: TokenizedExample, example: Example, lost_bytes: int
    ) -> None:
        """Append example `number` of the corpus.

        Args:
            lost_bytes: bytes of the texts to learn that their tokens do not give back.
        """
        if self.continued_by not in (None, number):
            self._end_document()  # its next piece is in another split
        self.continued_by = None if example.ends_document else number + 1
        if not self.encoder.stream:
            self._add_to_index(encoded)
            if self.split != "train":
                self.fields.write(json.dumps(example.fields) + "\n")
        self.tokens.write(encoded.tokens)
        if encoded.learned is not None:
            self.learned.write(encoded.learned)
        if encoded.features is not None and example.media is not None:
            self.feature_size = encoded.features.shape[1]
            self.features.write(encoded.features.tobytes())
            self.num_feature_rows += len(encoded.features)
            if self.split != "train":
                np.save(self.media, example.media())
        self.counts["sequences"] += 1
        self.counts["tokens"] += len(encoded.tokens)
        self.counts["targets"] += encoded.targets
        self.counts["bytes"] += sum(
            len(example.fields[name].encode()) for name in self.encoder.learned_fields
        )
        self.counts["lost_bytes"] += lost_bytes

    def _add_to_index(self, encoded: TokenizedExample) -> None:
        entry = (
            self.counts["tokens"],
            len(encoded.tokens),
            encoded.prefix,
            encoded.targets,
            self.num_feature_rows,
            0 if encoded.features is None else len(encoded.features),
        )
        self.index.write(np.array(entry, INDEX_DTYPE).tobytes())

    def _end_document(self) -> None:
        self.tokens.write([self.tokenizer.eos])
        self.counts["tokens"] += 1
        self.counts["targets"] += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.continued_by is not None:
            self._end_document()
        for file in (self.tokens, self.index, self.learned, self.features, self.media, self.fields):
            file.close()


class BitWriter:
    """Writes one bit a token, eight to a byte as np.packbits does. Without bits, there is no file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: BinaryIO | None = None
        self.rest = np.empty(0, bool)  # bits that do not fill a byte yet

    def write(self, bits: Sequence[bool]) -> None:
        if self.file is None:
            self.file = self.path.open("wb")
        self.rest = np.concatenate((self.rest, np.array(bits, bool)))
        complete = len(self.rest) // 8 * 8
        self.file.write(np.packbits(self.rest[:complete]).tobytes())
        self.rest = self.rest[complete:]

    def close(self) -> None:
        if self.file is not None:
            self.file.write(np.packbits(self.rest).tobytes())
            self.file.close()


def _check_no_split_is_empty(
    counts: dict[str, dict[str, int]], fractions: dict[str, float], account: DataAccount
) -> None:
    for split in SPLITS:
        if counts[split]["sequences"] == 0 and (split == "train" or fractions.get(split, 0) > 0):
            raise UserError(
                f"the {split} split is empty: the source has {account.examples} examples, and those with the same "
                f"source, text or image stay in one split (with data.split=near, near-duplicates too)."
                f"{account.left_out_text()} Add text, or change data.split (tail cuts by position), "
                f"data.val_fraction or data.test_fraction"
            )


def _digest(values: dict[str, Any]) -> str:
    return short_hash(json.dumps(values, sort_keys=True, default=str))
