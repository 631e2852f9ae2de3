"""English text that is already on the machine: docstrings of the standard library and of installed packages.

Source files are parsed, never imported. A docstring is a document for pretraining; its first line and all the rest are
a pair for summarization (summaries.py). All views share one split, so that no test pair is ever pretrained on. One of
several near-duplicates is kept (generated, wrapped or overloaded functions), and the packages in `data.unseen` are only
tested on. Test pairs whose summary says what its source does not are the split `unsupported`.
"""

import json
import re
import sys
import sysconfig
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock
from packaging.requirements import Requirement

from gptexp.config import schema
from gptexp.config.source import source_fingerprint
from gptexp.data.corpora.cleaning import Cleaner
from gptexp.data.corpora.corpus import SPLITS, Corpus, Example
from gptexp.data.corpora.docstrings import MIN_CHARACTERS, Docstring, read_docstrings
from gptexp.data.corpora.keyterms import extract_key_terms
from gptexp.data.corpora.summaries import summary_pair
from gptexp.data.duplicates import first_near_duplicates
from gptexp.data.progress import track_progress
from gptexp.data.splits import assign_splits
from gptexp.errors import UserError, nearest
from gptexp.files import (
    atomic_write,
    cached_sha256,
    dumps_with_checksum,
    loads_checked,
    sha256,
    short_hash,
)

SOURCE = source_fingerprint(
    "data/corpora/pydocs.py", "data/corpora/docstrings.py", "data/splits.py", "data/duplicates.py"
)
# Extras of gptexp whose packages are part of `all`, where they are installed.
EXTRAS = ("speech", "vision")
VIEWS = {
    ("text",): "documents",
    ("source", "target"): "summaries",
    ("source", "terms"): "key terms",
}


class DocumentedPackages(Corpus):
    """Installed packages, as the source of docstrings that are divided into splits once for all corpora."""

    has_fixed_splits = True

    def __init__(
        self, config: schema.DocumentedPackagesConfig, fields: tuple[str, ...], cache: Path
    ) -> None:
        self.config, self.cache = config, cache
        self.sources = _sources(config.packages)
        self.unseen = {name for name, *_ in self.sources} & set(map(_canonical, config.unseen))
        for name in config.unseen:
            if name != "stdlib":
                _distribution("unseen", name)
        self.file = cache / "pydocs" / f"{self._key()}.jsonl"

    def describe(self) -> dict[str, Any]:
        packages = {
            name: {"version": version, "licence": licence}
            for name, version, licence, _ in self.sources
        }
        return {"source": "docstrings", "packages": packages, "unseen": sorted(self.unseen)}

    def _key(self) -> str:
        config = self.config
        key = [SOURCE, config.val_fraction, config.test_fraction, config.split, sorted(self.unseen)]
        key += [(name, version, str(folder)) for name, version, _, folder in self.sources]
        return short_hash(json.dumps(key))

    def __iter__(self) -> Iterator[Example]:
        for example in self._examples:
            yield replace(example)  # its reader marks it

    @cached_property
    def _examples(self) -> list[Example]:
        """All examples; a store is built in several passes over them."""
        return list(self.read_examples())

    @abstractmethod
    def read_examples(self) -> Iterator[Example]:
        """Make the examples of all docstrings."""

    def read_docstrings(self, title: str) -> Iterator[tuple[Docstring, str]]:
        """Yield each docstring and its split, and show the progress under a title."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.file}.lock"):
            if not self._is_valid():
                self._extract()
        with self.file.open(encoding="utf8") as file:
            lines = file.readlines()
        for line in track_progress(lines, title, "docstrings", len(lines)):
            record = json.loads(line)
            yield Docstring(*(record[name] for name in Docstring._fields)), record["split"]

    def _is_valid(self) -> bool:
        """Return whether the file of extracted docstrings exists and is as it was written."""
        try:
            record = loads_checked(self.file.with_suffix(".json").read_text())
            return cached_sha256(self.file, self.cache) == record["sha256"]
        except (OSError, ValueError):
            return False

    def _extract(self) -> None:
        """Write the docstrings of all sources with their splits."""
        # Unseen packages come first, so that a near-duplicate in another package is dropped and not the unseen one.
        sources = sorted(self.sources, key=lambda source: source[0] not in self.unseen)
        files = [(name, path) for name, _, _, folder in sources for path in _python_files(folder)]
        documents: dict[str, str] = {}  # text -> package; equal texts are one document
        first_docstrings: dict[str, Docstring] = {}
        docstrings = zip(files, read_docstrings([path for _, path in files]), strict=True)
        for (name, _), of_file in track_progress(
            docstrings, "reading docstrings", "files", len(files)
        ):
            for docstring in of_file:
                documents.setdefault(docstring.text, name)
                first_docstrings.setdefault(docstring.text, docstring)
        fractions = {"val": self.config.val_fraction, "test": self.config.test_fraction}
        rule = self.config.split
        if rule == "near":
            texts = track_progress(
                documents, "finding near-duplicates", "docstrings", len(documents)
            )
            first = first_near_duplicates(texts)
            numbered = enumerate(documents.items())
            documents = {text: name for i, (text, name) in numbered if first[i] == i}
            rule = "exact"  # no near-duplicates are left
        fixed = ["unseen" if name in self.unseen else None for name in documents.values()]
        assigned = assign_splits(zip(documents, documents, fixed, strict=True), rule, fractions)
        with atomic_write(self.file) as temporary:
            with temporary.open("w", encoding="utf8") as out:
                for (text, name), split in zip(documents.items(), assigned, strict=True):
                    fields = first_docstrings[text]._asdict()
                    record = {"package": name, **fields, "split": SPLITS[split]}
                    out.write(json.dumps(record) + "\n")
            self.file.with_suffix(".json").write_text(
                dumps_with_checksum({"sha256": sha256(temporary)})
            )


class Pydocs(DocumentedPackages):
    supported_fields = tuple(VIEWS)
    config: schema.PydocsConfig

    def __init__(self, config: schema.PydocsConfig, fields: tuple[str, ...], cache: Path) -> None:
        super().__init__(config, fields, cache)
        self.view = VIEWS[fields]

    def describe(self) -> dict[str, Any]:
        description = {**super().describe(), "view": self.view}
        if self.config.code and self.view == "summaries":
            description["code"] = True
        return description

    def read_examples(self) -> Iterator[Example]:
        seen: set[str] = set()
        cleaner = Cleaner()
        for docstring, split in self.read_docstrings(f"extracting {self.view}"):
            for text, example in self._views(docstring, split, cleaner):
                # A repeated summary or paragraph teaches nothing.
                if text.lower() not in seen:
                    seen.add(text.lower())
                    yield example

    def _views(
        self, docstring: Docstring, split: str, cleaner: Cleaner
    ) -> Iterator[tuple[str, Example]]:
        """Yield a docstring's prose, its summary pair, or its paragraphs with key terms, each behind its own text."""
        if self.view == "documents":
            prose = cleaner.extract_prose(docstring.text)
            if len(prose) >= MIN_CHARACTERS:
                yield prose, Example({"text": prose}, split)
        elif self.view == "key terms":
            for paragraph, terms in extract_key_terms(docstring.text):
                source = f"{docstring.header}\n{paragraph}"
                yield paragraph, Example({"source": source, "terms": terms}, split)
        elif pair := summary_pair(docstring, self.config.code):
            yield pair.summary, pair.example(split)


def _sources(packages: list[str]) -> list[tuple[str, str, str, Path]]:
    """Return (name, version, licence, folder or file) of each source, in an order that every machine has.

    Dependencies come first, so that their near-duplicates are kept, whatever other packages are read.
    """
    required = dependencies("gptexp", EXTRAS) if "all" in packages else set()
    others = set(map(_canonical, packages)) - required - {"all", "stdlib"}
    names = [*sorted(required), *sorted(others)]
    sources = []
    if "all" in packages or "stdlib" in packages:
        version = ".".join(map(str, sys.version_info[:3]))
        sources.append(("stdlib", version, "PSF-2.0", Path(sysconfig.get_paths()["stdlib"])))
    for name in names:
        distribution = _distribution("packages", name)
        licence = _licence(distribution)
        tops = sorted(
            {
                file.parts[0]
                for file in distribution.files or []
                if file.suffix == ".py" and file.parts[0] != ".."
            }
        )
        for top in tops:
            sources.append(
                (name, distribution.version, licence, Path(str(distribution.locate_file(top))))
            )
    return sources


def _distribution(setting: str, name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        installed = [distribution.name for distribution in metadata.distributions()]
        raise UserError(
            f"data.{setting}: '{name}' is not installed.{nearest(name, installed)}"
        ) from None


def dependencies(name: str, extras: tuple[str, ...] = ()) -> set[str]:
    """Return the installed distributions that `name` with these extras requires, directly or not."""
    names: set[str] = set()
    pending = [name]
    while pending:
        parent = pending.pop()
        try:
            requires = metadata.requires(parent) or []
        except metadata.PackageNotFoundError:
            names.discard(parent)
            continue
        for requirement in map(Requirement, requires):
            child = _canonical(requirement.name)
            is_required = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra})
                for extra in ("", *(extras if parent == name else ()))
            )
            if is_required and child not in names:
                names.add(child)
                pending.append(child)
    return names


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _licence(distribution: metadata.Distribution) -> str:
    """Return the licence that the metadata name: in the new field, a classifier, or the old field if it is short."""
    fields = distribution.metadata
    classifiers = [
        text.rsplit(" :: ", 1)[-1]
        for text in fields.get_all("Classifier") or []
        if "License ::" in text
    ]
    names = [
        *(fields.get_all("License-Expression") or []),
        *classifiers,
        *(fields.get_all("License") or []),
    ]
    return next((name for name in names if name and len(name) < 300), "see the package")


def _python_files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    skipped = {"site-packages", "__pycache__"}
    return sorted(
        path for path in folder.rglob("*.py") if not skipped & set(path.relative_to(folder).parts)
    )
