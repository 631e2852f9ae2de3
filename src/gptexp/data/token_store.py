"""The token store: a corpus encoded once for one task and one tokenizer, and memory-mapped from then on.

A store is a folder named by a hash of corpus, split rule, tokenizer, task and encoding code (see build_store.py).

    store/KEY/meta.json  tokenizer.json  train.tokens  train.sums  train.index  ...  val.jsonl  test.jsonl

The tokens of a large split are in several files, its shards (see shards.py). Conversations add a bit for each token
(train.learned), images and audio feature rows (train.features). Held-out splits keep the raw fields (test.jsonl) and
media (test.media), too.
"""

import json
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gptexp.data.account import DataAccount
from gptexp.data.corpora import Example
from gptexp.data.corpora.corpus import SPLITS
from gptexp.data.shards import shards_of
from gptexp.data.token_ranges import MappedTokens, TokenRanges, first_unknown
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.files import cached_sha256, loads_checked
from gptexp.wording import format_count

INDEX_DTYPE = np.dtype(
    [
        ("offset", "<i8"),  # of the example's first token
        ("length", "<i4"),  # in tokens
        ("prefix", "<i4"),
        ("targets", "<i4"),
        ("row", "<i8"),  # of the example's first feature row
        ("rows", "<i4"),  # number of its feature rows
    ]
)

# What a run reads in meta.json, besides the splits and the hashes of the files.
META_FIELDS = ("task", "fingerprint", "content", "dtype", "vocab_size", "feature_size", "account")


@dataclass(frozen=True, slots=True)
class Cut:
    """Tokens of an example that did not fit."""

    part: str  # "source" or "target", for example
    tokens: int  # that are left out
    setting: str  # that decides how many fit, as it is typed: "task.max_target_tokens=64"


@dataclass(slots=True)
class TokenizedExample:
    """One sequence as a task lays it out."""

    tokens: list[int]
    prefix: int = 0  # number of leading prompt tokens
    targets: int = 0  # number of positions with a loss
    features: NDArray[np.uint8] | None = None  # [rows, size] image patches or audio frames
    cuts: tuple[Cut, ...] = ()
    # What the data account counts besides, each with an instance: ("terms in other capitals", "VELDEN").
    notes: tuple[tuple[str, str], ...] = ()
    learned: Sequence[bool] | None = None  # by token: is it a target


class ExampleEncoder(Protocol):
    """The part of a task that builds its store: its layout."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an example."""

    @property
    def learned_fields(self) -> tuple[str, ...]:
        """Those of `fields` whose texts the model learns."""

    @property
    def stream(self) -> bool:
        """Whether sequences are windows of one long token stream, not one sequence an example."""

    def encode(
        self, examples: list[Example], tokenizer: Tokenizer
    ) -> list[TokenizedExample | None]:
        """Encode each example; None, and the reason in `example.left_out`, where the task cannot use it."""

    def extend_tokenizer(self, tokenizer: Tokenizer) -> Tokenizer:
        """Return the tokenizer with the special tokens that the task needs."""

    def fingerprint(self) -> dict[str, Any]:
        """Return all settings that `encode` depends on."""

    def objection(self, account: DataAccount) -> str:
        """Return why the examples of this account hold nothing to learn; "": they do."""


class RemoteShards(Protocol):
    """The shards of a store that a network is in between."""

    url: str

    @property
    def names(self) -> Collection[str]:
        """The names of their files."""

    def tokens(self, split: str) -> TokenRanges: ...


class TokenStore:
    """A store on disk, memory-mapped: only the parts that are read take memory.

    Args:
        is_new: this process has just built it.
        remote: has the tokens, where they are not in the folder.
    """

    remote: RemoteShards | None = None

    def __init__(
        self, folder: Path, is_new: bool = False, remote: RemoteShards | None = None
    ) -> None:
        self.folder, self.is_new, self.remote = folder, is_new, remote
        self.meta = loads_checked((folder / "meta.json").read_text())
        self.tokenizer = Tokenizer.load(folder / "tokenizer.json")

    @property
    def fingerprint(self) -> str:
        """A hash of the corpus and of all sequences encoded from it."""
        return self.meta["fingerprint"]

    @property
    def content_fingerprint(self) -> str:
        """A hash of corpus, split and task, independent of the tokenizer."""
        return self.meta["content"]

    @property
    def account(self) -> DataAccount:
        """Return what became of the examples of the corpus."""
        return DataAccount.from_json(self.meta["account"])

    def has(self, split: str) -> bool:
        counts = self.meta["splits"].get(split)  # None: the store is older than the split
        return counts is not None and counts["sequences"] > 0

    def tokens(self, split: str) -> TokenRanges:
        """Return the token numbers [N] of a split, one example after the other."""
        if self.remote:
            return self.remote.tokens(split)
        dtype, shards = np.dtype(self.meta["dtype"]), shards_of(self.meta, split)
        files = [self.folder / shard["file"] for shard in shards]
        parts = [_memory_map(file, dtype) for file in files]
        if len(files) < 2:  # its hash was compared, if it is any
            return MappedTokens(parts or [np.empty(0, dtype)])

        def check(number: int, tokens: NDArray, start: int) -> None:
            check_tokens(tokens, start, self.meta["vocab_size"], files[number])

        return MappedTokens(parts, check)

    def index(self, split: str) -> NDArray:
        """Return the index [examples] of a split: a record of INDEX_DTYPE for each example."""
        return _memory_map(self.folder / f"{split}.index", INDEX_DTYPE)

    def learned(self, split: str) -> NDArray[np.uint8]:
        """Return the bits [ceil(N / 8)] that say which tokens of a split are targets; `read_bits` unpacks them."""
        return _memory_map(self.folder / f"{split}.learned", np.dtype(np.uint8))

    def features(self, split: str) -> NDArray[np.uint8]:
        """Return the feature rows [rows, size] of a split, one example after the other."""
        rows = _memory_map(self.folder / f"{split}.features", np.dtype(np.uint8))
        return rows.reshape(-1, self.meta["feature_size"] or 1)

    def examples(self, split: str) -> Iterator[dict[str, Any]]:
        """Yield the raw fields of a held-out split's examples; `media` is an array, if the task has features."""
        with (
            (self.folder / f"{split}.jsonl").open(encoding="utf8") as lines,
            (self.folder / f"{split}.media").open("rb") as arrays,
        ):
            for line in lines:
                fields = json.loads(line)
                if self.meta["feature_size"]:
                    fields["media"] = np.load(arrays)
                yield fields


class DamagedStoreError(ValueError):
    """A file of a token store is not there or not as it was written."""

    def __init__(self, file: Path, cause: Exception) -> None:
        super().__init__(f"{file}: {cause}")
        self.file = file
        self.reason = getattr(cause, "strerror", None) or str(cause)


def verify_files(folder: Path, cache: Path, elsewhere: Collection[str] = ()) -> dict[str, Any]:
    """Return the content of meta.json, after comparing all files of the store with their hashes.

    Of a split in several shards, only the sizes are compared: hashing them all would take minutes.

    Args:
        elsewhere: files of the store that are not in this folder.

    Raises:
        DamagedStoreError: a file is missing or was changed.
    """
    file = folder / "meta.json"
    try:
        meta = loads_checked(file.read_text())
        sizes = _sizes_of_shards(meta)
        for name, expected in meta["files"].items():
            if name in elsewhere:
                continue
            file = folder / name
            is_same = (
                file.stat().st_size == sizes[name]
                if name in sizes
                else cached_sha256(file, cache) == expected
            )
            if not is_same:
                raise ValueError("its content is not what was written")
    except (OSError, ValueError) as error:
        raise DamagedStoreError(file, error) from None
    return meta


def _sizes_of_shards(meta: dict[str, Any]) -> dict[str, int]:
    """Return the bytes of each shard, by its name, of the splits that have several."""
    itemsize = np.dtype(meta["dtype"]).itemsize
    return {
        shard["file"]: shard["tokens"] * itemsize
        for shards in meta.get("shards", {}).values()
        if len(shards) > 1
        for shard in shards
    }


def open_store(
    folder: Path,
    encoder: ExampleEncoder,
    cache: Path,
    tokenizer: Tokenizer | None = None,
    remote: RemoteShards | None = None,
) -> TokenStore:
    """Open a store that another run has built.

    Args:
        tokenizer: that of the initial weights, which must be the store's.
        remote: has the tokens, where they are not in the folder.

    Raises:
        UserError: the folder is no store, is damaged, or was made for another task or tokenizer.
    """
    word = f"data.path={remote.url if remote else folder}"
    try:
        meta = verify_files(folder, cache, remote.names if remote else ())
        store = TokenStore(folder, remote=remote)
        for split in SPLITS:
            store.has(split)
        made_for = _describe(meta["task"])
        if missing := [name for name in META_FIELDS if name not in meta]:
            raise KeyError(missing[0])
    except (KeyError, TypeError, AttributeError) as error:
        problem = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{word}: is no token store that this version of gptexp reads (meta.json: {problem}). Build it again "
            f"where the texts are"
        ) from None
    except (OSError, ValueError) as error:
        damage = (
            error
            if isinstance(error, DamagedStoreError)
            else DamagedStoreError(folder / "meta.json", error)
        )
        if (folder / "plan.json").is_file():
            raise UserError(_explain_parts(folder, damage)) from None
        raise UserError(
            f"{word}: is not a complete token store ({damage.file.name}: {damage.reason}). Give a "
            f"folder with the meta.json and all files of one"
        ) from None
    if meta["task"] != encoder.fingerprint():
        raise UserError(
            f"{word}: its tokens were made for {made_for}; this run needs "
            f"{_describe(encoder.fingerprint())}. Give the task and the model.context that they were made with"
        )
    if tokenizer is not None and tokenizer.fingerprint() != store.tokenizer.fingerprint():
        raise UserError(
            f"{word}: has another tokenizer than the weights that the run starts from. Give other weights with "
            f"init=..., or init=scratch"
        )
    return store


def _explain_parts(folder: Path, damage: DamagedStoreError) -> str:
    """Return the message about a store of `gptexp tokenize` that is unfinished or damaged."""
    advice = f"Repeat the gptexp tokenize command that has --to {shlex.quote(str(folder))}"
    if (folder / "meta.json").is_file():
        remove = f"rm {shlex.quote(str(damage.file))}"
        return (
            f"data.path={folder}: is not a complete token store ({damage.file.name}: {damage.reason}). {advice}, which "
            f"writes what is missing; before it, remove a damaged file: {remove}"
        )
    try:
        count = len(loads_checked((folder / "plan.json").read_text())["input"]) - 1
    except (OSError, ValueError, KeyError):
        return f"data.path={folder}: plan.json is damaged. Give the folder of another store"
    missing = count - len(list((folder / "parts").glob("[0-9]*.json")))
    return f"data.path={folder}: {missing} of {format_count(count, 'part')} are missing. {advice}"


def check_tokens(tokens: NDArray, start: int, vocab_size: int, file: Path) -> None:
    """Check that tokens from position `start` of a shard on are in the vocabulary.

    Raises:
        UserError: one is not, so that the file is damaged.
    """
    place = first_unknown(tokens, vocab_size)
    if place is not None:
        raise UserError(
            f"{file}: damaged: token {int(tokens[place]):,} at position {start + place:,} is not in the vocabulary of "
            f"{vocab_size:,} tokens. Copy the file again; or, where gptexp tokenize has written it, delete it and "
            f"repeat that command"
        )


def read_bits(packed: NDArray[np.uint8], start: int, length: int) -> NDArray[np.bool_]:
    """Return `length` bits from number `start` on of an array that np.packbits has written."""
    end = start + length
    bits = np.unpackbits(packed[start // 8 : -(-end // 8)])
    return bits[start % 8 :][:length].astype(bool)


def _describe(fingerprint: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fingerprint.items())


def _memory_map(path: Path, dtype: np.dtype) -> NDArray:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")
