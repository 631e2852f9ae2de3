"""Pairs for summarization from apt's package lists: a package's name and description, and its synopsis.

Nothing is fetched: apt keeps the lists of the archives that a machine installs from. Paragraphs that many packages
share are left out, and so are all but the first of the packages with the same text. The source package chooses the
split, by the hash of its name: its binary packages resemble each other, and the next release keeps the split.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from gptexp.config import schema
from gptexp.data.corpora.corpus import Corpus, Example
from gptexp.data.corpora.open_file import COMPRESSIONS, explain_damage, open_bytes
from gptexp.data.corpora.summaries import MIN_SOURCE_WORDS, SummaryPair, cut_source
from gptexp.data.duplicates import first_near_duplicates, normalized_hash
from gptexp.data.progress import track_progress
from gptexp.errors import UserError
from gptexp.files import cached_sha256

SYNOPSIS_WORDS = range(3, 15)
MAX_SHARED = 3  # packages that a paragraph describes
LIST_ITEM = re.compile(r"\s*[-*+•] ")


class Description(NamedTuple):
    package: str
    source_package: str
    synopsis: str
    paragraphs: list[str]

    @property
    def text(self) -> str:
        return "\n\n".join(self.paragraphs)


class Debian(Corpus):
    supported_fields = (("source", "target"), ("text",))
    has_fixed_splits = True

    def __init__(self, config: schema.DebianConfig, fields: tuple[str, ...], cache: Path) -> None:
        self.config, self.fields, self.cache = config, fields, cache
        self.descriptions = _lists(config.path, "Translation-en")
        self.packages = _lists(config.path, "Packages")
        if not self.descriptions:
            raise UserError(
                f"data.path={config.path}: no list of package descriptions (*_Translation-en) is there. Where there "
                f"is apt, type: sudo apt-get -o Acquire::Languages=en update"
            )

    def describe(self) -> dict[str, Any]:
        files = [*self.descriptions, *self.packages]
        return {
            "source": "descriptions of Debian packages",
            "licence": "that of each package: /usr/share/doc/PACKAGE/copyright",
            "lists": [cached_sha256(file, self.cache) for file in files],
        }

    def __iter__(self) -> Iterator[Example]:
        for example in self._examples:
            yield replace(example)  # its reader marks it

    @cached_property
    def _examples(self) -> list[Example]:
        descriptions = _drop_repetition(_read_descriptions(self.descriptions, self.packages))
        with_splits = [(self._split(one.source_package), one) for one in descriptions]
        # Of near-duplicates the first is kept, which must not be one that is trained on.
        with_splits.sort(key=lambda pair: pair[0] == "train")
        if self.config.split == "near":
            texts = [one.text for _, one in with_splits]
            first = first_near_duplicates(
                track_progress(texts, "comparing descriptions", "packages", len(texts))
            )
            with_splits = [pair for i, pair in enumerate(with_splits) if first[i] == i]
        make_example = _document if self.fields == ("text",) else _pair
        rows = track_progress(with_splits, "choosing examples", "packages", len(with_splits))
        return [make_example(one, split) for split, one in rows]

    def _split(self, source_package: str) -> str:
        position = int.from_bytes(normalized_hash(source_package), "little") / 2**64
        if position < self.config.test_fraction:
            return "test"
        is_val = position < self.config.test_fraction + self.config.val_fraction
        return "val" if is_val else "train"


def _document(description: Description, split: str) -> Example:
    name, synopsis = description.package, description.synopsis
    text = f"{name}: {synopsis}\n\n{description.text}"
    return Example({"text": text}, split, group=description.source_package)


def _pair(description: Description, split: str) -> Example:
    """Return the example of a summary, with the reason where it is not used."""
    source = f"{description.package}\n{cut_source(description.text)}"
    pair, group = SummaryPair(source, description.synopsis), description.source_package
    if len(pair.summary.split()) in SYNOPSIS_WORDS:
        return pair.example(split, group)
    example = Example({"source": pair.source, "target": pair.summary}, split, group=group)
    words = f"{SYNOPSIS_WORDS.start} to {SYNOPSIS_WORDS.stop - 1} words"
    example.leave_out(f"the synopsis has not {words}", pair.summary)
    return example


def _lists(folder: str, name: str) -> list[Path]:
    """Return the lists of one kind in apt's folder of lists, also compressed ones, in a fixed order."""
    endings = ("", *COMPRESSIONS)
    return sorted(path for end in endings for path in Path(folder).glob(f"*_{name}{end}"))


def _read_descriptions(descriptions: list[Path], packages: list[Path]) -> list[Description]:
    """Return the first description of each package. One that is in no list of packages is its own source package."""
    sources: dict[str, str] = {}
    for stanza in _read_stanzas(packages, ("Package", "Source")):
        # "Source: gcc-12 (12.2.0-14)" where the versions differ
        source = stanza.get("Source", stanza["Package"]).split()[0]
        sources.setdefault(stanza["Package"], source)
    first: dict[str, Description] = {}
    stanzas = _read_stanzas(descriptions, ("Package", "Description-en"))
    for stanza in track_progress(stanzas, "reading descriptions", "packages", len(sources)):
        name = stanza["Package"]
        if name not in first and "Description-en" in stanza:
            synopsis, *lines = stanza["Description-en"].split("\n")
            paragraphs = _paragraphs(lines)
            first[name] = Description(name, sources.get(name, name), synopsis.strip(), paragraphs)
    return list(first.values())


def _read_stanzas(files: list[Path], fields: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield these fields of each stanza of the files; the lines of a field without their first space."""
    for file in files:
        stanza: dict[str, str] = {}
        name = ""
        with explain_damage(file), open_bytes(file) as stream:
            for line in stream.read().decode("utf8", "replace").split("\n"):
                if not line:
                    if "Package" in stanza:
                        yield stanza
                    stanza, name = {}, ""
                elif line[0] != " ":
                    name, _, value = line.partition(":")
                    if name in fields:
                        stanza[name] = value.strip()
                elif name in fields:
                    stanza[name] += f"\n{line[1:]}"
        if "Package" in stanza:
            yield stanza


def _paragraphs(lines: list[str]) -> list[str]:
    """Join the lines of each paragraph; "." is an empty line, and an indented line or a bullet begins a line."""
    paragraphs = []
    for is_empty, group in groupby(lines, key=lambda line: line.strip() in (".", "")):
        if not is_empty:
            text = ""
            for line in group:
                text += ("\n" if LIST_ITEM.match(line) else " ") + " ".join(line.split())
            paragraphs.append(text.strip())
    return paragraphs


def _drop_repetition(descriptions: list[Description]) -> list[Description]:
    """Drop shared paragraphs, descriptions that are short then, and those whose text or synopsis is another's."""
    counts = Counter(
        digest for one in descriptions for digest in set(map(normalized_hash, one.paragraphs))
    )
    seen: set[bytes] = set()
    kept = []
    for one in descriptions:
        hashes = [normalized_hash(paragraph) for paragraph in one.paragraphs]
        paragraphs = [
            paragraph
            for paragraph, digest in zip(one.paragraphs, hashes, strict=True)
            if counts[digest] <= MAX_SHARED
        ]
        if sum(len(paragraph.split()) for paragraph in paragraphs) < MIN_SOURCE_WORDS:
            continue
        keys = {normalized_hash(paragraphs[0]), normalized_hash(one.synopsis)}
        if seen.isdisjoint(keys):
            seen |= keys
            kept.append(one._replace(paragraphs=paragraphs))
    return kept
