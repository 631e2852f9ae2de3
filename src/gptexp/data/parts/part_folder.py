"""A token store that many processes write at once, on one machine or on several that share a folder.

    FOLDER/plan.json  tokenizer.json     the units of the input, and the tokenizer that all processes use
    FOLDER/parts/000012.train.tokens     the tokens of a unit
    FOLDER/parts/000012.json             counts and hashes of a part; it is written last, so a part with it is done
    FOLDER/.gptexp-tokenize.lock         marks the folder as ours before it has a plan
    FOLDER/meta.json                     the list of all parts: with it, the folder is a token store

Parts have the numbers of their units, so that the store is the same whichever process was faster.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from gptexp.config import schema
from gptexp.config.source import source_fingerprint
from gptexp.data import tokenizers
from gptexp.data.account import DataAccount
from gptexp.data.build_store import SplitWriter, encode_examples, usable_examples
from gptexp.data.corpora import Corpus, Example
from gptexp.data.corpora.corpus import SPLITS
from gptexp.data.corpora.files import Files
from gptexp.data.parts.plan import LOCK, make_folder, write_or_compare_plan
from gptexp.data.parts.units import (
    Unit,
    describe_input,
    find_names,
    fixed_splits,
    open_unit,
    plan_units,
)
from gptexp.data.shards import digest_file
from gptexp.data.splits import split_by_hash
from gptexp.data.token_store import ExampleEncoder
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.files import dumps_with_checksum, fsync, loads_checked, sha256, short_hash, write_text
from gptexp.machine import available_cpus

LEFTOVER = re.compile(r"\.(\d{6,})\.(lock|\w+\.tmp|json\.\d+\.tmp)")  # of a process that was killed
EMPTY_FILES = ("index", "features", "media", "jsonl")  # of a split of a stream


class PartFolder:
    """A store in parts, with the corpus and the encoder that they are made of.

    Args:
        tokenizer: that of the initial weights; None: the first process builds that of the settings.

    Raises:
        UserError: the folder has other files, or was begun with other settings, inputs or code.
    """

    def __init__(
        self,
        path: Path,
        corpus: Corpus,
        encoder: ExampleEncoder,
        data: schema.DataConfig,
        tokenizer_config: schema.TokenizerConfig,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.path, self.corpus, self.encoder = path, corpus, encoder
        fractions = {"val": data.val_fraction, "test": data.test_fraction}
        fixed = fixed_splits(corpus)
        self.fractions = {name: x for name, x in fractions.items() if name not in fixed}
        self.parts = path / "parts"
        self.units = plan_units(corpus)
        self.input = describe_input(corpus, self.units)
        if isinstance(corpus, Files) and len(self.units) > 1:
            corpus.has_known_names = find_names(corpus, self.units)
        plan = {
            "input": [self.input, *map(asdict, self.units)],
            "data": asdict(data),
            "tokenizer": tokenizer.fingerprint() if tokenizer else asdict(tokenizer_config),
            "task": encoder.fingerprint(),
            "source": source_fingerprint("data", "tasks"),
        }
        plan = json.loads(json.dumps(plan))
        make_folder(path)
        with FileLock(path / LOCK):
            write_or_compare_plan(
                path,
                plan,
                lambda: tokenizer or tokenizers.build(tokenizer_config, self._training_texts()),
            )
            self.tokenizer = Tokenizer.load(path / "tokenizer.json")
            self.parts.mkdir(exist_ok=True)
            self._drop_damaged()

    def _training_texts(self) -> Iterator[str]:
        for unit in self.units:
            for example in self._examples(unit, DataAccount()):
                if example.split == "train":
                    yield from example.texts

    def _examples(self, unit: Unit, account: DataAccount) -> Iterator[Example]:
        """Yield the usable examples of a unit with their splits, which follow from each alone."""
        for example in usable_examples(open_unit(self.corpus, unit), None, account):
            if example.split in (None, "train"):
                example.split = split_by_hash(example.group_key, self.fractions)
            yield example

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype("<u2" if self.tokenizer.vocab_size <= 1 << 16 else "<u4")

    @property
    def is_store(self) -> bool:
        return (self.path / "meta.json").is_file()

    @property
    def account(self) -> DataAccount:
        """The account of all parts, once they are a store."""
        return DataAccount.from_json(
            loads_checked((self.path / "meta.json").read_text())["account"]
        )

    def count_tokens(self) -> dict[str, int]:
        """Return the tokens of the train, val and test splits, once the parts are a store."""
        counts = loads_checked((self.path / "meta.json").read_text())["splits"]
        return {split: counts[split]["tokens"] for split in ("train", "val", "test")}

    def missing(self, share: range | None = None) -> list[int]:
        """Return the numbers of the parts that are not done, of all or of a share."""
        numbers = share if share is not None else range(len(self.units))
        return [number for number in numbers if not self._done_file(number).is_file()]

    def write_missing(self, share: range) -> Iterator[int]:
        """Write the parts of a share that are not done and that no other process is writing; yield their numbers."""
        for number in self.missing(share):
            with self._claim(number) as is_mine:
                if is_mine and not self._done_file(number).is_file():
                    self._write(number)
                    yield number

    @contextmanager
    def _claim(self, number: int) -> Iterator[bool]:
        """Lock a part without waiting, and yield whether no other process has it."""
        lock = FileLock(self.parts / f".{number:06}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _write(self, number: int) -> None:
        """Encode a unit. Its files appear complete, and the file that says so comes last."""
        account = DataAccount()
        with tempfile.TemporaryDirectory(".tmp", f".{number:06}.", self.parts) as temporary:
            with ExitStack() as stack:
                writers = [
                    stack.enter_context(
                        SplitWriter(
                            Path(temporary), split, self._dtype, self.encoder, self.tokenizer
                        )
                    )
                    for split in SPLITS
                ]
                examples = self._examples(self.units[number], account)
                encode_examples(examples, self.encoder, self.tokenizer, writers, account)
            shards = {
                writer.split: self._move(Path(temporary), number, writer)
                for writer in writers
                if writer.counts["tokens"]
            }
        part = {
            "counts": {writer.split: writer.counts for writer in writers},
            "shards": shards,
            "account": account.as_json(),
        }
        write_text(self._done_file(number), dumps_with_checksum(part))

    def _move(self, temporary: Path, number: int, writer: SplitWriter) -> list[dict[str, Any]]:
        """Move the shards of a split to the parts; return their entries."""
        shards = []
        for shard in writer.tokens.shards:
            name = f"{number:06}.{shard['file']}"
            fsync(temporary / shard["file"])
            digest = sha256(temporary / shard["file"])
            (temporary / shard["file"]).replace(self.parts / name)
            shards.append({"file": f"parts/{name}", "tokens": shard["tokens"], "sha256": digest})
        return shards

    def _done_file(self, number: int) -> Path:
        return self.parts / f"{number:06}.json"

    def _drop_damaged(self) -> None:
        """Make the folder of a store unfinished again where a file of it is gone or has another size."""
        if not self.is_store:
            return
        damaged = []
        for number in range(len(self.units)):
            try:
                self._read_part(number)
            except (OSError, ValueError):
                damaged.append(number)
        for number in damaged:
            self._done_file(number).unlink(missing_ok=True)
        if damaged:
            (self.path / "meta.json").unlink()

    def merge(self) -> None:
        """Write the list of all parts, which makes the folder a token store. No token is copied.

        Raises:
            UserError: there is no part, a part is damaged, or nothing is left to train on.
        """
        with FileLock(self.path / LOCK):
            if not self.is_store:
                self._write_meta()
            self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Remove the files of processes that were killed, but not those of a part that another process writes again."""
        leftovers: dict[int, list[Path]] = {}
        for file in self.parts.iterdir():
            if match := LEFTOVER.fullmatch(file.name):
                leftovers.setdefault(int(match[1]), []).append(file)
        for number, files in leftovers.items():
            with self._claim(number) as is_ours:
                for file in files if is_ours else []:
                    if file.is_dir():
                        shutil.rmtree(file, ignore_errors=True)
                    else:
                        file.unlink(missing_ok=True)

    def _read_part(self, number: int) -> dict[str, Any]:
        """Return what the last file of a part says.

        Raises:
            OSError: a file of it is not there.
            ValueError: a file of it has another size, or was changed.
        """
        part = loads_checked(self._done_file(number).read_text())
        for shard in _shards_of_part(part):
            size = (self.path / shard["file"]).stat().st_size
            if size != self._dtype.itemsize * shard["tokens"]:
                raise ValueError(f"{shard['file']} has {size:,} bytes")
        return part

    def _verify_part(self, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what the last file of a part says, and the digests of the blocks of each of its shards.

        Raises:
            UserError: a file of the part is not as it was written; it counts as not done from now on.
        """
        sums = {}
        try:
            part = self._read_part(number)
            for shard in _shards_of_part(part):
                digest, sums[shard["file"]] = digest_file(self.path / shard["file"])
                if digest != shard["sha256"]:
                    raise ValueError(f"{shard['file']} is not what was written")
        except (OSError, ValueError) as error:
            file = self._done_file(number)
            file.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"{file}: this part is damaged ({reason}). Repeat the command, which writes it again"
            ) from None
        return part, sums

    def _write_meta(self) -> None:
        """Compare all parts with their hashes, and write meta.json."""
        with ThreadPoolExecutor(available_cpus()) as threads:
            verified = list(threads.map(self._verify_part, range(len(self.units))))
        account = DataAccount()
        counts: dict[str, dict[str, int]] = {}
        shards: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        sums: dict[str, bytes] = {}
        for part, sums_of_part in verified:
            account.merge(DataAccount.from_json(part["account"]))
            sums |= sums_of_part
            for split in SPLITS:
                shards[split] += part["shards"].get(split, [])
                total = counts.setdefault(split, dict.fromkeys(part["counts"][split], 0))
                for name, count in part["counts"][split].items():
                    total[name] += count
        account.finish(self.encoder.fields)
        if not counts or not counts["train"]["tokens"]:
            raise UserError(f"nothing is left to train on.{account.left_out_text()}")
        if objection := self.encoder.objection(account):
            raise UserError(objection)
        files = {shard["file"]: shard.pop("sha256") for split in SPLITS for shard in shards[split]}
        for split in SPLITS:
            blocks = b"".join(sums[shard["file"]] for shard in shards[split])
            (self.path / f"{split}.sums").write_bytes(blocks)
            for kind in EMPTY_FILES:
                (self.path / f"{split}.{kind}").touch()
        files |= {
            file.name: sha256(file)
            for file in sorted(self.path.iterdir())
            if file.is_file() and file.name != "plan.json" and not file.name.startswith(".")
        }
        content = {
            "corpus": self.input,
            "task": self.encoder.fingerprint(),
            "split": ["exact", *(self.fractions.get(name, 0.0) for name in ("val", "test")), None],
        }
        meta = {
            **content,
            "fingerprint": short_hash(json.dumps([content, files])),
            "content": short_hash(json.dumps(content)),
            "dtype": self._dtype.str,
            "vocab_size": self.tokenizer.vocab_size,
            "feature_size": 0,
            "splits": counts,
            "shards": shards,
            "account": account.as_json(),
            "files": files,
        }
        write_text(self.path / "meta.json", dumps_with_checksum(meta))


def _shards_of_part(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [shard for shards in part["shards"].values() for shard in shards]
