"""Turn an audit into values for JSON, and into sections of tables that the terminal and the page show."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from gptexp.auditing.findings import DataAudit
from gptexp.auditing.languages import UNDETERMINED, language_name
from gptexp.auditing.passages import MIN_PASSAGE
from gptexp.auditing.probe import ProbeResult
from gptexp.wording import format_count

MAX_EXAMPLES = 5  # of a finding on the terminal
MAX_LANGUAGES = 4
NOTICEABLE_RATIO = 0.1  # in nats: one sentence is 10 % likelier than the other


@dataclass
class Table:
    """Rows of cells below column names; `note` says what it shows."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    note: str = ""


@dataclass
class Section:
    """A heading, the result in a sentence, tables, and examples of findings, all of them or some."""

    title: str
    summary: str
    tables: list[Table] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    bars: list[tuple[str, int]] = field(default_factory=list)  # a histogram, on the page only


def data_sections(audit: DataAudit) -> list[Section]:
    """Return the sections about the data."""
    sections = [_examples(audit), _copies(audit), _passages(audit), _leaks(audit), _personal(audit)]
    if audit.terms:
        sections.append(_terms(audit))
    return [*sections, _groups(audit)]


def probe_section(result: ProbeResult) -> Section:
    """Return the section about a model."""
    groups = Table(("", "log-likelihood ratio in nats", "95 %"))
    groups.rows = [
        (label, f"{estimate.mean:+.2f}", f"{estimate.low:+.2f} to {estimate.high:+.2f}")
        for label, estimate in (
            (f"all pairs, {result.first} over {result.second}", result.overall),
            *((f"{name}, against the mean", value) for name, value in result.fillers.items()),
        )
    ]
    unequal = [
        value
        for value in result.fillers.values()
        if value.low > NOTICEABLE_RATIO or value.high < -NOTICEABLE_RATIO
    ]
    summary = (
        f"{result.num_pairs} pairs of sentences that differ in one word: the model prefers {result.first} in "
        f"{result.share_first:.0%}; {len(unequal)} of {len(result.fillers)} fillers differ from the mean by more "
        f"than {NOTICEABLE_RATIO} nats"
    )
    return Section(
        f"paired sentences, {result.model}", summary, [groups], notes=tuple(result.limits)
    )


def data_json(audit: DataAudit) -> dict[str, Any]:
    """Return all findings as JSON values."""
    groups = {
        name: {
            group: {
                "examples": dict(counts.examples),
                "mentions": counts.mentions,
                "near_words": [near._asdict() for near in audit.groups.near_words(name, group)],
                "near_terms": dict(counts.near_lists),
            }
            for group, counts in members.items()
        }
        for name, members in audit.groups.counts.items()
    }
    profile = audit.profile
    fields = [
        {
            "split": split,
            "field": name,
            "words": lengths,
            "languages": dict(profile.languages[split, name].most_common()),
        }
        for (split, name), lengths in profile.lengths().items()
    ]
    return {
        "data": audit.examples.corpus.describe(),
        "examples": audit.examples.counts(),
        "left_out": {
            reason: asdict(tally) for reason, tally in audit.examples.account.left_out.items()
        },
        "fields": fields,
        "copies": [asdict(finding) for finding in audit.copies],
        "passages": [asdict(finding) for finding in audit.passages],
        "leaks": [asdict(finding) for finding in audit.leaks],
        "benchmark_items": audit.num_benchmark_items,
        "personal": [asdict(finding) for finding in audit.personal],
        "terms": {
            name: {
                term: {
                    "occurrences": count.occurrences,
                    "examples": dict(count.examples),
                    "contexts": count.contexts,
                }
                for term, count in terms.items()
            }
            for name, terms in audit.terms.items()
        },
        "groups": groups,
    }


def probe_json(result: ProbeResult) -> dict[str, Any]:
    """Return a probe as JSON values."""
    fillers = {name: estimate._asdict() for name, estimate in result.fillers.items()}
    return asdict(result) | {"overall": result.overall._asdict(), "fillers": fillers}


def _examples(audit: DataAudit) -> Section:
    counts = audit.examples.counts()
    tables = [Table(("split", "field", "least", "5 %", "median", "95 %", "most", "language"))]
    tables[0].note = "number of words, and language by function words"
    for (split, name), lengths in audit.profile.lengths().items():
        numbers = (f"{lengths[key]:,.0f}" for key in tables[0].columns[2:-1])
        languages = _shares(audit.profile.languages[split, name])
        tables[0].rows.append((split, name, *numbers, languages))
    if left_out := audit.examples.account.left_out:
        rows: list[tuple[str, ...]] = [
            (f"{tally.count:,}", reason, tally.first) for reason, tally in left_out.items()
        ]
        tables.append(Table(("left out", "because", "first"), rows))
    summary = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    bars = [
        (f"{name}: {label} words" if len(audit.examples.fields) > 1 else f"{label} words", count)
        for name in audit.examples.fields
        for label, count in audit.profile.histogram(name)
    ]
    return Section("examples", summary, tables, bars=bars)


def _shares(languages: Counter[str]) -> str:
    total = languages.total()
    parts = [
        f"{language_name(code) if code != UNDETERMINED else code} {count / total:.1%}"
        for code, count in languages.most_common(MAX_LANGUAGES)
    ]
    rest = len(languages) - MAX_LANGUAGES
    return ", ".join(parts) + (f", {rest} more" if rest > 0 else "")


def _copies(audit: DataAudit) -> Section:
    table = Table(("examples of", "repeat", "examples of", "which"))
    kinds = Counter(
        (finding.example.split, finding.of.split, finding.field, finding.is_equal)
        for finding in audit.copies
    )
    for (split, of, name, is_equal), count in sorted(kinds.items()):
        degree = "equal" if is_equal else "nearly equal"
        table.rows.append((split, f"{count:,}", of, f"{degree} {name or 'examples'}"))
    across = sum(finding.example.split != finding.of.split for finding in audit.copies)
    inside = len(audit.copies) - across
    summary = f"{inside:,} repeat another example of their split, {across:,} one of another split"
    examples = [
        f"{finding.example.short} ({finding.example.split}) repeats {finding.of.short} ({finding.of.split}), "
        f"{finding.similarity:.2f}: {finding.example.text}"
        for finding in sorted(
            audit.copies, key=lambda finding: finding.example.split == finding.of.split
        )
    ]
    return Section("duplicates", summary, [table] if table.rows else [], examples)


def _passages(audit: DataAudit) -> Section:
    summary = (
        f"{format_count(len(audit.passages), 'example')} with {MIN_PASSAGE} words in a row or more of an earlier one "
        f"of the same split"
    )
    examples = [
        f"{finding.example.short} ({finding.example.split}) has {finding.words} words in a row of {finding.of.short}: "
        f"{finding.example.text}"
        for finding in sorted(audit.passages, key=lambda finding: -finding.words)
    ]
    return Section("repeated passages", summary, examples=examples)


def _leaks(audit: DataAudit) -> Section:
    items = {finding.item for finding in audit.leaks}
    counts = Counter(item.split for item in items)
    totals = audit.examples.counts() | {"benchmark": audit.num_benchmark_items}
    parts = [
        f"{counts[split]:,} of {total:,} texts of {split}"
        for split, total in totals.items()
        if split != "train" and total
    ]
    summary = "training examples contain " + (", ".join(parts) or "nothing: no split is held out")
    if audit.examples.medium and not audit.num_benchmark_items:
        summary = f"the texts of an {audit.examples.medium} may be in several splits, and are not compared"
    examples = [
        f"{finding.example.short} contains {finding.share:.0%} of {finding.item.short} ({finding.item.split}), "
        f"{finding.run} words in a row: {finding.item.text}"
        for finding in audit.leaks
    ]
    return Section("leaks", summary, examples=examples)


def _personal(audit: DataAudit) -> Section:
    kinds = Counter(finding.kind for finding in audit.personal)
    rows = {finding.example.row for finding in audit.personal}
    parts = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
    summary = (
        f"in {format_count(len(rows), 'example')}: {parts}" if parts else "none whose form is known"
    )
    examples = [
        f"{finding.example.short} ({finding.example.split}): {finding.kind} {finding.masked}"
        for finding in audit.personal
    ]
    return Section("personal data", summary, examples=examples)


def _terms(audit: DataAudit) -> Section:
    splits = tuple(audit.examples.counts())
    table = Table(("list", "term", "occurrences", *(f"in {split}" for split in splits), "example"))
    for name, terms in audit.terms.items():
        for term, count in sorted(terms.items(), key=lambda item: -item[1].occurrences):
            if count.occurrences:
                numbers = (f"{count.examples[split]:,}" for split in splits)
                row = (name, term, f"{count.occurrences:,}", *numbers, count.contexts[0])
                table.rows.append(row)
    total = sum(len(terms) for terms in audit.terms.values())
    summary = f"{len(table.rows)} of {total} terms occur"
    return Section("terms", summary, [table] if table.rows else [])


def _groups(audit: DataAudit) -> Section:
    total = len(audit.examples)
    table = Table(("set", "group", "examples", "share", "words nearer to it than to the others"))
    near = Table(("set", "group", "list of terms", "mentions near one", "share of its mentions"))
    for name, groups in audit.groups.counts.items():
        if not any(counts.mentions for counts in groups.values()):
            continue
        for group, counts in groups.items():
            number = counts.examples.total()
            words = ", ".join(near.word for near in audit.groups.near_words(name, group))
            table.rows.append((name, group, f"{number:,}", f"{number / total:.1%}", words))
            for terms, count in counts.near_lists.items():
                share = f"{count / counts.mentions:.1%}"
                near.rows.append((name, group, terms, f"{count:,}", share))
    summary = "examples that mention a group of people, by words for it"
    if not table.rows:
        summary = "no words for groups of people"
    return Section("groups", summary, [table for table in (table, near) if table.rows])
