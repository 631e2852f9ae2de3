"""Audit data: three passes over the examples of a config.

The first assigns the splits and hashes all texts. The second reads each text, and indexes those that are held out. The
third looks for these in the training split.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gptexp.auditing.benchmark import read_items
from gptexp.auditing.contamination import MIN_SHORT_WORDS, NgramIndex
from gptexp.auditing.copies import Copy, TextTable, find_copies, find_copies_across
from gptexp.auditing.examples import MAX_BEGINNING, AuditedExample, SplitExamples
from gptexp.auditing.findings import (
    CopyFinding,
    DataAudit,
    LeakFinding,
    PassageFinding,
    PersonalFinding,
    Place,
    TermCount,
)
from gptexp.auditing.groups import GroupCounter
from gptexp.auditing.languages import detect_language
from gptexp.auditing.passages import PassageIndex
from gptexp.auditing.personal_data import find_personal_data
from gptexp.auditing.word_lists import GroupSets, Tokens, WordMatcher
from gptexp.auditing.words import split_words
from gptexp.config.schema import Config
from gptexp.data.corpora.corpus import SPLITS
from gptexp.data.progress import track_progress

MAX_CONTEXTS = 3  # of a term in a report
KEEPING_ORDER = (
    "test",
    "unsupported",
    "unseen",
    "val",
    "train",
)  # of two copies, the first split's stays


def audit_data(
    config: Config,
    groups: GroupSets,
    terms: dict[str, list[str]] | None = None,
    benchmarks: Iterable[Path] = (),
) -> DataAudit:
    """Audit the data of a config.

    Args:
        groups: sets of groups of people, with their words.
        terms: lists of words and phrases to count.
        benchmarks: files and folders whose texts the training split should not contain.

    Raises:
        UserError: the data, or a benchmark, cannot be read.
    """
    terms = terms or {}
    index = NgramIndex()
    items: list[Place] = []  # of the index: texts of benchmarks, and those that are held out
    for path in benchmarks:
        for where, text in read_items(path):
            index.add(len(items), text, MIN_SHORT_WORDS)
            items.append(Place(-1, where, "benchmark", text[:MAX_BEGINNING]))
    num_benchmark_items = len(items)

    tables: dict[str, TextTable] = {}

    def fill_tables(example: AuditedExample) -> None:
        for name, text in _compared_texts(example).items():
            if name not in tables:
                tables[name] = TextTable(finds_near=not example.media_digest)
            tables[name].add(text)

    examples = SplitExamples.read(config, fill_tables)
    counts = {name: {term: TermCount() for term in words} for name, words in terms.items()}
    audit = DataAudit(examples, GroupCounter(groups), counts, num_benchmark_items)
    matcher = WordMatcher(terms)
    passages = PassageIndex()
    for table in tables.values():
        table.find_candidates()
    for example in track_progress(examples, "auditing", total=len(examples)):
        if not examples.medium:
            for name, text in _compared_texts(example).items():
                tables[name].add_candidate(example.row, text)
            passages.add(example.row, example.text)
        for name, text in example.fields.items():
            _read_text(audit, example, name, text, matcher)
            if example.split != "train" and not examples.medium:
                index.add(len(items), text)
                items.append(Place.of(example))
    copies = _find_copies(tables, examples)
    passages.find_candidates()
    named_rows = {row for _, copy in copies for row in (copy.row, copy.kept)}
    places: dict[int, Place] = {}
    for example in track_progress(examples, "comparing", total=len(examples)):
        passages.add_candidate(example.row, example.text)
        if example.row in named_rows or passages.is_candidate(example.row):
            places[example.row] = Place.of(example)
        if example.split == "train":
            _find_leaks(audit, example, index, items)
    _report_copies(audit, copies, places)
    _report_passages(audit, passages, places)
    return audit


def _compared_texts(example: AuditedExample) -> dict[str, str]:
    """Return the texts by which an example is compared with others.

    "" is the whole example. Of several fields the first is the input, which must not be in two splits.
    """
    if example.media_digest:
        return {"": example.media_digest}
    name, *others = example.fields
    return {"": example.text} | ({name: example.fields[name]} if others else {})


def _read_text(
    audit: DataAudit, example: AuditedExample, name: str, text: str, matcher: WordMatcher
) -> None:
    """Add a text to the counts, and report its personal data and terms."""
    language = detect_language(text)
    audit.profile.add(example.split, name, len(split_words(text)), language)
    for datum in find_personal_data(text):
        audit.personal.append(
            PersonalFinding(
                Place.of(example), name, datum.kind, datum.start, datum.text, datum.masked
            )
        )
        audit.faults["personal"].setdefault(example.row, f"{datum.kind} in {name}: {datum.masked}")
    tokens = Tokens(text)
    occurrences = matcher.find(tokens)
    for occurrence in occurrences:
        count = audit.terms[occurrence.name][occurrence.term]
        count.occurrences += 1
        count.examples.add(example.row, example.split)
        if len(count.contexts) < MAX_CONTEXTS:
            count.contexts.append(tokens.context(occurrence.first, occurrence.last))
        reason = f"term '{occurrence.term}' of {occurrence.name}, in {name}"
        audit.faults["terms"].setdefault(example.row, reason)
    audit.groups.add(tokens, example.row, example.split, language, occurrences)


def _find_copies(tables: dict[str, TextTable], examples: SplitExamples) -> list[tuple[str, Copy]]:
    """Return the copies, each with the field that is repeated, or with "" for the whole example."""
    ranks = np.array([KEEPING_ORDER.index(split) for split in SPLITS])[examples.splits]
    copies: list[tuple[str, Copy]] = []
    repeated: set[int] = set()
    for name, table in sorted(tables.items()):
        classes, near = table.classes(), table.near_duplicates()
        if name:  # within a split, an input may have several answers
            repetitions = find_copies_across(classes, near, ranks)
        else:
            repetitions = find_copies(classes, near, np.argsort(ranks, kind="stable").tolist())
        copies += [(name, copy) for copy in repetitions if copy.row not in repeated]
        repeated |= {copy.row for copy in repetitions}
    return copies


def _find_leaks(
    audit: DataAudit, example: AuditedExample, index: NgramIndex, items: list[Place]
) -> None:
    """Report the held-out texts, and those of benchmarks, that a training example contains."""
    longest: dict[Place, LeakFinding] = {}  # several fields may contain one item
    for text in example.fields.values():
        for leak in index.find(text):
            item = items[leak.item]
            if item not in longest or leak.run > longest[item].run:
                longest[item] = LeakFinding(Place.of(example), item, leak.share, leak.run)
    audit.leaks += longest.values()
    for finding in longest.values():
        share, item = f"{finding.share:.0%}", finding.item
        reason = f"contains {share} of {item.where} ({item.split}), {finding.run} words in a row"
        audit.faults["leaks"].setdefault(example.row, reason)


def _report_copies(
    audit: DataAudit, copies: list[tuple[str, Copy]], places: dict[int, Place]
) -> None:
    for name, copy in copies:
        example, of = places[copy.row], places[copy.kept]
        audit.copies.append(CopyFinding(example, of, name, copy.similarity, copy.is_equal))
        degree = "equal to" if copy.is_equal else f"near-duplicate ({copy.similarity:.2f}) of"
        fault = "duplicates" if example.split == of.split else "leaks"
        reason = f"{name or 'example'} {degree} {of.where} ({of.split})"
        audit.faults[fault][copy.row] = reason


def _report_passages(audit: DataAudit, passages: PassageIndex, places: dict[int, Place]) -> None:
    """Report passages within a split; copies and leaks are reported as such."""
    known = audit.faults["duplicates"].keys() | audit.faults["leaks"].keys()
    for passage in passages.find():
        example, of = places[passage.row], places[passage.earlier]
        if example.split == of.split and not {passage.row, passage.earlier} & known:
            audit.passages.append(PassageFinding(example, of, passage.words))
            reason = f"{passage.words} words in a row are those of {of.where} ({of.split})"
            audit.faults["passages"][passage.row] = reason
