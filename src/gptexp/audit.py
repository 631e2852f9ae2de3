"""Audit data before training on them, and a model after it.

python -m gptexp.audit task=summarize data=files data.path=pairs.jsonl
python -m gptexp.audit task=pretrain data=files data.path=corpus.txt --benchmark questions.jsonl --html audit.html
python -m gptexp.audit task=pretrain data=files data.path=corpus.txt --fix cleaned
python -m gptexp.audit --model latest

KEY=VALUE words choose the data, as for gptexp run. The audit names duplicates inside and between splits, held-out texts
in the training split, personal data, lengths, languages, and groups of people. docs/auditing.md says how, and what it
does not see.
"""

import argparse
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gptexp.auditing import FAULTS
from gptexp.checkpoints.find_weights import find_weights
from gptexp.command_line import CommandParser, output_file
from gptexp.config.compose import compose_config
from gptexp.config.overrides import explain_option
from gptexp.data.corpora.find_files import find_files
from gptexp.errors import UserError, exits_cleanly
from gptexp.files import write_text

if TYPE_CHECKING:
    from gptexp.auditing.findings import DataAudit
    from gptexp.config.schema import Config

DEFAULT_FAULTS = ("duplicates", "leaks", "personal")


@exits_cleanly
def main() -> None:
    args = _parser().parse_args()
    if not args.overrides and not args.model:
        raise UserError(
            "nothing to audit: name the data as for gptexp run, such as task=summarize data=files "
            "data.path=pairs.jsonl, or a model with --model RUN"
        )
    _check_paths(args)
    config = compose_config(args.overrides) if args.overrides else None
    if args.model:
        find_weights(args.model)  # a wrong name is refused before the data are read

    from gptexp.auditing import report
    from gptexp.auditing.page import format_page
    from gptexp.auditing.probe import SENTENCES_FILE, Sentences, probe_model
    from gptexp.auditing.terminal import sections_text  # these import torch

    sentences = Sentences.load(args.sentences or SENTENCES_FILE)
    sections: list[report.Section] = []
    if config:
        audit = _audit_data(config, args)
        sections += report.data_sections(audit)
    if args.model:
        probe = probe_model(args.model, sentences)
        sections.append(report.probe_section(probe))
    print(sections_text(sections))
    if args.json:
        values = report.data_json(audit) if config else {}
        if args.model:
            values["probe"] = report.probe_json(probe)
        _write(args.json, json.dumps(values, ensure_ascii=False, indent=1, default=str) + "\n")
    if args.html:
        _write(
            args.html, format_page("Audit", f"gptexp audit {shlex.join(sys.argv[1:])}", sections)
        )
    if config and args.fix:
        _write_copy(audit, args)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser("audit", __doc__, explain_option)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the data, as for run")
    parser.add_argument(
        "--benchmark",
        metavar="PATH",
        type=_path,
        action="append",
        default=[],
        help="file or folder whose texts the training split must not contain; may be repeated",
    )
    parser.add_argument(
        "--terms",
        metavar="FILE",
        type=_path,
        help="terms to count: one a line, or lists by name in YAML",
    )
    parser.add_argument(
        "--groups",
        metavar="FILE",
        type=_path,
        help="words for groups of people in YAML, {SET: {GROUP: [word, ...]}} (default: gender, age, religion)",
    )
    parser.add_argument(
        "--model", metavar="RUN", help="model that scores pairs of sentences; named as for generate"
    )
    parser.add_argument(
        "--sentences", metavar="FILE", type=_path, help="other pairs of sentences for --model"
    )
    parser.add_argument("--json", metavar="FILE", type=_path, help="write all findings as JSON")
    parser.add_argument("--html", metavar="FILE", type=_path, help="write the report as a page")
    parser.add_argument(
        "--fix",
        metavar="FOLDER",
        type=_path,
        help="write a copy of the data without faulty examples, and left_out.jsonl with the reasons",
    )
    parser.add_argument(
        "--drop",
        choices=FAULTS,
        action="append",
        help=f"fault for which --fix leaves an example out; may be repeated (default: {', '.join(DEFAULT_FAULTS)})",
    )
    return parser


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _check_paths(args: argparse.Namespace) -> None:
    """Check the files and folders of the options before anything slow begins.

    Raises:
        UserError: one cannot be written, or does not exist.
    """
    for option in ("json", "html"):
        path = getattr(args, option)
        output_file(option, None if path is None else str(path))
    if args.fix:
        parent = args.fix.absolute().parent
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise UserError(
                f"--fix {args.fix}: the folder {parent} does not exist or cannot be written to"
            )
    if args.fix and (args.fix.is_file() or (args.fix.is_dir() and any(args.fix.iterdir()))):
        raise UserError(f"--fix {args.fix}: is not empty; give a new folder")
    for path in args.benchmark:
        find_files(str(path), "--benchmark")
    if not args.overrides:
        data_options = [
            name for name in ("benchmark", "terms", "groups", "fix") if getattr(args, name)
        ]
        if data_options:
            raise UserError(
                f"--{data_options[0]} concerns data: name them as for gptexp run, such as task=pretrain data=files "
                f"data.path=corpus.txt"
            )
    if args.sentences and not args.model:
        raise UserError("--sentences are for a model: name it with --model RUN")
    if args.drop and not args.fix:
        raise UserError("--drop says what --fix leaves out: add --fix FOLDER")


def _audit_data(config: "Config", args: argparse.Namespace) -> "DataAudit":
    from gptexp.auditing.audit_data import audit_data
    from gptexp.auditing.word_lists import GROUPS_FILE, load_groups, load_terms

    groups = load_groups(args.groups or GROUPS_FILE)
    return audit_data(config, groups, load_terms(args.terms) if args.terms else {}, args.benchmark)


def _write(path: Path, text: str) -> None:
    # Names of files may have bytes that are no UTF-8.
    write_text(path, text.encode("utf8", "replace").decode())


def _write_copy(audit: "DataAudit", args: argparse.Namespace) -> None:
    from gptexp.auditing.filtered_copy import LOG, data_overrides, write_filtered_copy

    left_out = write_filtered_copy(audit, args.fix, args.drop or DEFAULT_FAULTS)
    counts = ", ".join(f"{fault} {count:,}" for fault, count in left_out.items()) or "nothing"
    others = [word for word in args.overrides if not re.match(r"data[.=]", word)]
    command = shlex.join(["gptexp", "run", *others, *data_overrides(audit, args.fix)])
    print(
        f"\n{args.fix}: a copy of the data without {left_out.total():,} examples ({counts}); {args.fix / LOG} has them "
        f"and the reasons. To train on it, type:\n  {command}"
    )


if __name__ == "__main__":
    main()
