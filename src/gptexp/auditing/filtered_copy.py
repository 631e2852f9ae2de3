"""Write a copy of audited data without faulty examples, and a log of what was left out and why."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from gptexp.auditing.examples import AuditedExample
from gptexp.auditing.findings import DataAudit
from gptexp.data.progress import track_progress
from gptexp.errors import UserError
from gptexp.files import atomic_folder

LOG = "left_out.jsonl"
MAX_RECORD_CHARACTERS = 1_000_000  # of a document that was read in pieces
PATH_KEYS = {"train": "path", "val": "val_path", "test": "test_path"}


def write_filtered_copy(audit: DataAudit, folder: Path, faults: Collection[str]) -> Counter[str]:
    """Write SPLIT.jsonl for each split, and the log. Return the number of examples left out, by fault.

    Args:
        faults: kinds of faults whose examples are left out, keys of `audit.faults`.

    Raises:
        UserError: nothing would be left of a split, or the examples have pictures or recordings.
    """
    if audit.examples.medium:
        raise UserError(
            f"--fix: JSON lines hold no {audit.examples.medium}; --json FILE names the examples to leave out"
        )
    reasons: dict[int, tuple[str, str]] = {}  # row -> fault and reason
    for fault in faults:
        for row, reason in audit.faults[fault].items():
            reasons.setdefault(row, (fault, reason))
    counts, kept = audit.examples.counts(), Counter[str]()
    with atomic_folder(folder) as temporary, ExitStack() as stack:
        files = {
            name: stack.enter_context(
                (temporary / name).open("w", encoding="utf8", errors="replace")
            )
            for name in (LOG, *map("{}.jsonl".format, counts))
        }
        examples = track_progress(audit.examples, "copying", total=len(audit.examples))
        for example in _without_faults(examples, reasons, files[LOG]):
            kept[example.split] += 1
            _write_line(files[f"{example.split}.jsonl"], example.record)
        if empty := [split for split in counts if not kept[split]]:
            raise UserError(
                f"--fix {folder}: nothing would be left of the {empty[0]} split; "
                f"leave out fewer kinds of faults with --drop"
            )
    return Counter(fault for fault, _ in reasons.values())


def data_overrides(audit: DataAudit, folder: Path) -> list[str]:
    """Return the settings that train on a copy."""
    splits = [split for split in audit.examples.counts() if split in PATH_KEYS]
    return [
        "data=files",
        *(f"data.{PATH_KEYS[split]}={folder / f'{split}.jsonl'}" for split in splits),
    ]


def _without_faults(
    examples: Iterable[AuditedExample], reasons: dict[int, tuple[str, str]], log: IO[str]
) -> Iterator[AuditedExample]:
    """Yield the examples that stay, the pieces of a document joined; write the others to the log."""
    pieces: list[AuditedExample] = []
    size = 0
    for example in examples:
        is_next_piece = (
            pieces
            and not pieces[-1].ends_document
            and pieces[-1].split == example.split
            and example.row not in reasons
            and size < MAX_RECORD_CHARACTERS
        )
        if pieces and not is_next_piece:
            yield _join(pieces)
            pieces, size = [], 0
        if example.row in reasons:
            fault, reason = reasons[example.row]
            values = {"example": example.where, "split": example.split}
            _write_line(log, {**values, "fault": fault, "reason": reason, "fields": example.record})
        else:
            pieces.append(example)
            size += len(example.text)
    if pieces:
        yield _join(pieces)


def _join(pieces: list[AuditedExample]) -> AuditedExample:
    """Return the pieces of a document as one example."""
    if len(pieces) > 1:
        pieces[0].record = {"text": "".join(piece.fields["text"] for piece in pieces)}
    return pieces[0]


def _write_line(file: IO[str], values: dict[str, Any]) -> None:
    file.write(json.dumps(values, ensure_ascii=False) + "\n")
