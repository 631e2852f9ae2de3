"""A token store that many processes write at once, on one machine or on several that share a folder.

    FOLDER/plan.json  tokenizer.json     the units of the input, and the tokenizer that all processes use
    FOLDER/parts/000012.train.tokens     the tokens of a unit
    FOLDER/parts/000012.json             counts and hashes of a part; it is written last, so a part with it is done
    FOLDER/meta.json                     the list of all parts: with it, the folder is a token store

Parts have the numbers of their units, so that the store is the same whichever process was faster.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
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
from gptexp.data.parts.units import Unit, describe_input, fixed_splits, open_unit, plan_units
from gptexp.data.shards import digest_file
from gptexp.data.splits import split_by_hash
from gptexp.data.token_store import ExampleEncoder
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.files import dumps_with_checksum, fsync, loads_checked, sha256, short_hash, write_text

# Beginnings of the names that a folder may hold before it has a plan, of a process that was killed.
OWN_FILES = (".", "parts", "tokenizer", "generation_config", "chat_template")
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
        plan = {
            "input": [self.input, *map(asdict, self.units)],
            "data": asdict(data),
            "tokenizer": tokenizer.fingerprint() if tokenizer else asdict(tokenizer_config),
            "task": encoder.fingerprint(),
            "source": source_fingerprint("data", "tasks"),
        }
        plan = json.loads(json.dumps(plan))
        self.parts.mkdir(parents=True, exist_ok=True)
        with FileLock(path / ".lock"):
            self._write_plan(plan, tokenizer_config, tokenizer)
        self.tokenizer = Tokenizer.load(path / "tokenizer.json")

    def _write_plan(
        self,
        plan: dict[str, Any],
        tokenizer_config: schema.TokenizerConfig,
        tokenizer: Tokenizer | None,
    ) -> None:
        """Write the tokenizer and the plan, or compare the plan that another process has written."""
        file = self.path / "plan.json"
        if not file.is_file():
            names = sorted(entry.name for entry in self.path.iterdir())
            if others := [name for name in names if not name.startswith(OWN_FILES)]:
                raise UserError(
                    f"--to {self.path}: holds other files ({others[0]}). Give a new folder"
                )
            tokenizer = tokenizer or tokenizers.build(tokenizer_config, self._training_texts())
            tokenizer.save(self.path / "tokenizer.json")
            write_text(file, dumps_with_checksum(plan))
            return
        try:
            existing = loads_checked(file.read_text())
        except ValueError as error:
            raise UserError(f"{file}: {error}. Delete {self.path}, and begin again") from None
        nouns = {"input": "input files", "source": "code of gptexp", "task": "settings of the task"}
        if changed := [
            nouns.get(key, f"settings of {key}") for key in plan if plan[key] != existing[key]
        ]:
            raise UserError(
                f"--to {self.path}: was begun with other {' and '.join(changed)}. Give the same, or a new folder"
            )

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
        with tempfile.TemporaryDirectory(prefix=f".{number:06}.", dir=self.parts) as temporary:
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
        """Move the shards of a split to the parts, with the digests of their blocks; return their entries."""
        shards = []
        for shard in writer.tokens.shards:
            name = f"{number:06}.{shard['file']}"
            digest, sums = digest_file(temporary / shard["file"])
            (temporary / "sums").write_bytes(sums)
            for source, target in ((shard["file"], name), ("sums", f"{name}.sums")):
                fsync(temporary / source)
                (temporary / source).replace(self.parts / target)
            shards.append({"file": f"parts/{name}", "tokens": shard["tokens"], "sha256": digest})
        return shards

    def _done_file(self, number: int) -> Path:
        return self.parts / f"{number:06}.json"

    def merge(self) -> None:
        """Write the list of all parts, which makes the folder a token store. No token is copied.

        Raises:
            UserError: there is no part, a part is damaged, or nothing is left to train on.
        """
        with FileLock(self.path / ".lock"):
            if not self.is_store:
                self._write_meta([self._read_part(number) for number in range(len(self.units))])
        for leftover in self.parts.glob(".*"):  # of processes that were killed
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)

    def _read_part(self, number: int) -> dict[str, Any]:
        file = self._done_file(number)
        try:
            part = loads_checked(file.read_text())
            for shard in (shard for shards in part["shards"].values() for shard in shards):
                size = os.path.getsize(self.path / shard["file"])
                if size not in (2 * shard["tokens"], 4 * shard["tokens"]):
                    raise ValueError(f"{shard['file']} has {size:,} bytes")
        except (OSError, ValueError) as error:
            raise UserError(
                f"{file}: damaged ({error}). Delete it, and repeat the command, which writes this part again"
            ) from None
        return part

    def _write_meta(self, parts: list[dict[str, Any]]) -> None:
        account = DataAccount()
        counts: dict[str, dict[str, int]] = {}
        shards: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        for part in parts:
            account.merge(DataAccount.from_json(part["account"]))
            for split in SPLITS:
                shards[split] += part["shards"].get(split, [])
                total = counts.setdefault(split, dict.fromkeys(part["counts"][split], 0))
                for name, count in part["counts"][split].items():
                    total[name] += count
        if not counts or not counts["train"]["tokens"]:
            raise UserError(f"nothing is left to train on.{account.left_out_text()}")
        if objection := self.encoder.objection(account):
            raise UserError(objection)
        files = {shard["file"]: shard.pop("sha256") for split in SPLITS for shard in shards[split]}
        for split in SPLITS:
            with (self.path / f"{split}.sums").open("wb") as sums:
                for shard in shards[split]:
                    sums.write((self.path / f"{shard['file']}.sums").read_bytes())
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
