"""Write the records of the corpus in splits, of the first of several near-duplicates alone, and the manifest."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from copying import CopyingTexts
from documents import Document
from extract import read_lines
from held_out import UNSEEN_PACKAGES, description_split, docstring_split, document_split
from numpy.typing import NDArray
from prepare import Source, documents_file, held_out_file, read_facts, read_signatures, text_of
from records import Record, RecordMaker
from token_counts import TokenCounts

from gptexp.data.duplicates import connected_components, crc32, near_duplicate_pairs
from gptexp.files import atomic_write

SPLITS = ("train", "val", "test", "unseen")
TRAIN_FILES = 8
HELD_OUT_SHARE = (
    5  # one of so many held-out docstrings and descriptions is in the splits of the corpus
)
LEARNED = ("docstrings", "manuals", "descriptions")  # kinds whose words the copying texts use
LEARNED_SHARE = 0.1


class Assembler:
    def __init__(
        self, data: Path, key: str, sources: list[Source], packages: dict[str, Any]
    ) -> None:
        self.data, self.key, self.sources = data, key, sources
        self.unseen = set(packages.get("unseen", []))
        self.shares: dict[str, float] = packages.get("shares", {})
        self.random = random.Random(0)
        self.maker = RecordMaker(self.random)
        self.copying = CopyingTexts(self.random)
        self.counts = TokenCounts()
        self.manifest: list[dict[str, Any]] = []

    def write(self, missing: dict[str, str]) -> None:
        """Write all splits, the manifest and the summary; `missing` says why packages could not be had."""
        first_held_out, first_documents = self._find_firsts()
        files = {split: SplitFiles(self.data, split) for split in SPLITS}
        for number, source in enumerate(self.sources):
            self._write_package(source, first_documents[number], files)
            print(f"wrote {number + 1} of {len(self.sources)} packages: {source.file}", flush=True)
        for number, source in enumerate(self.sources):
            self._write_held_out(source, first_held_out[number], files)
        size = self.counts.total_bytes("train") * self.shares.get("copying", 0.0)
        while self.copying.can_make_records and self.counts.bytes["train", "copying"] < size:
            self._write_record("copying", self.copying.make(), "train", files)
        for split_files in files.values():
            split_files.shuffle()
        summary = self.counts.summary() | {"missing": missing}
        for name, content in (("manifest", self.manifest), ("summary", summary)):
            with atomic_write(self.data / f"{name}.json") as temporary:
                temporary.write_text(json.dumps(content, indent=1))
        print(json.dumps(summary, indent=1))

    def _find_firsts(self) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]]:
        """Return for each package which of its held-out texts and documents are the first of their near-duplicates.

        Held-out texts come before documents, so that nothing like them is trained on. Unseen packages come first.
        """
        order = sorted(self.sources, key=lambda source: source.name not in self.unseen)
        files = [documents_file(self.data, self.key, source) for source in order]
        parts = [read_signatures(file.with_suffix(".held-out.npy")) for file in files]
        parts += [read_signatures(file.with_suffix(".npy")) for file in files]
        signatures = np.concatenate(parts)
        labels = connected_components(len(signatures), near_duplicate_pairs(signatures))
        is_first = labels == np.arange(len(signatures))
        pieces = np.split(is_first, np.cumsum([len(part) for part in parts])[:-1])
        places = [order.index(source) for source in self.sources]
        return [pieces[place] for place in places], [pieces[len(order) + place] for place in places]

    def _write_package(
        self, source: Source, is_first: NDArray[np.bool_], files: dict[str, "SplitFiles"]
    ) -> None:
        file = documents_file(self.data, self.key, source)
        count = size = 0
        for document, is_used in zip(read_lines(file), is_first.tolist(), strict=True):
            kind, text = document["kind"], document["text"]
            if not is_used or (
                kind == "code" and self.random.random() >= self.shares.get("code", 1.0)
            ):
                continue
            count += 1
            size += len(text.encode())
            split = "train" if kind in ("docstring", "description") else document_split(text)
            self._write_document(document, "unseen" if source.name in self.unseen else split, files)
        counts = {"bytes of text": size, "kept": count, "dropped": len(is_first) - count}
        left_out = json.loads(file.with_suffix(".json").read_text())
        self.manifest.append(read_facts(self.data, source) | counts | left_out)

    def _write_held_out(
        self, source: Source, is_first: NDArray[np.bool_], files: dict[str, "SplitFiles"]
    ) -> None:
        lines = read_lines(held_out_file(self.data, source))
        for line, is_used in zip(lines, is_first.tolist(), strict=True):
            text = text_of(line)
            if not is_used or crc32(text) % HELD_OUT_SHARE:
                continue
            if source.name in UNSEEN_PACKAGES:
                split = "unseen"
            elif line["kind"] == "docstring":
                split = docstring_split(text)
            else:
                split = description_split(line["source"])
            self._write_document(line, split, files)

    def _write_document(
        self, document: Document, split: str, files: dict[str, "SplitFiles"]
    ) -> None:
        for kind, record in self.maker.make(document):
            if split == "train" and kind in LEARNED and self.random.random() < LEARNED_SHARE:
                self.copying.learn(record["text"])
            self._write_record(kind, record, split, files)

    def _write_record(
        self, kind: str, record: Record, split: str, files: dict[str, "SplitFiles"]
    ) -> None:
        record = self.counts.fit(record)
        self.counts.add(split, kind, record)
        files[split].add(record)


class SplitFiles:
    """The files of a split, in random order: a record goes to one of them by chance, and `shuffle` ends each."""

    def __init__(self, folder: Path, split: str) -> None:
        names = (
            [f"train-{number:02}" for number in range(TRAIN_FILES)] if split == "train" else [split]
        )
        self.paths = [folder / f"{name}.jsonl.gz" for name in names]
        self.parts = [path.with_suffix(".part") for path in self.paths]
        self.files = [part.open("w", encoding="utf8") for part in self.parts]
        self.random = random.Random(split)

    def add(self, record: Record) -> None:
        self.random.choice(self.files).write(json.dumps(record, ensure_ascii=False) + "\n")

    def shuffle(self) -> None:
        for file, part, path in zip(self.files, self.parts, self.paths, strict=True):
            file.close()
            lines = part.read_text(encoding="utf8").split("\n")[:-1]
            self.random.shuffle(lines)
            with (
                atomic_write(path) as temporary,
                gzip.open(temporary, "wt", encoding="utf8", compresslevel=5) as out,
            ):
                out.writelines(f"{line}\n" for line in lines)
            part.unlink()
