"""Compare runs, configs over seeds, or the jobs of a sweep: what differs, and whether it is more than noise.

python -m gptexp.compare translate-nano-1a2b3c4d translate-nano-5e6f7a8b
python -m gptexp.compare 'outputs/translate-nano-*' --html comparison.html
python -m gptexp.compare sweep-lr-9c8d7e6f --csv results.csv

All others are compared with the first. Runs that differ only in their seed are one config, unless --each is given. A
sweep alone prints its table, also while it goes on. docs/comparing.md explains the words.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from gptexp.cli import print_json
from gptexp.command_line import CommandParser, add_outputs_option, output_file, quote_for_shell
from gptexp.comparing.subjects import PATTERN, find_subjects
from gptexp.errors import UserError, exits_cleanly
from gptexp.files import write_text
from gptexp.runs.sweep_folder import SweepFolder, find_run_or_sweep, find_sweep


@exits_cleanly
def main() -> None:
    parser = CommandParser("compare", __doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="RUN",
        help="runs and sweeps: folders, names, patterns in quotes, or latest",
    )
    parser.add_argument(
        "--margin",
        type=float,
        metavar="D",
        help="smallest difference of the primary metric that matters (default: that of the sweep, else 0)",
    )
    parser.add_argument(
        "--each", action="store_true", help="compare each run alone, also those of one config"
    )
    add_outputs_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--csv", metavar="FILE", help="write the table as comma-separated values")
    parser.add_argument("--html", metavar="FILE", help="write the comparison as a page")
    args = parser.parse_args()
    if not args.names:
        raise UserError(
            "nothing to compare: name two runs, a pattern in quotes such as 'outputs/translate-*', or a sweep"
        )
    if args.margin is not None and not 0 <= args.margin < math.inf:
        raise UserError(f"--margin {args.margin:g}: must be a number from 0 on")
    csv, html = (output_file(option, getattr(args, option)) for option in ("csv", "html"))
    outputs = Path(args.outputs).expanduser()
    sweep = None if args.each else _find_single_sweep(args.names, outputs)
    if sweep:
        texts = _sweep_texts(sweep, args.margin, html)
    else:
        texts = _comparison_texts(args.names, outputs, args.margin or 0.0, args.each, html)
    if csv:
        write_text(csv, texts["csv"])
    if html:
        write_text(html, texts["html"])
    if args.json:
        print_json(_without_infinities(texts["json"]))
    else:
        print(texts["terminal"])


def _find_single_sweep(names: list[str], outputs: Path) -> SweepFolder | None:
    """Return the sweep that is the only subject; None: there are others, or it is a run.

    `latest` alone is the latest sweep, because a single run has nothing to be compared with.
    """
    if len(names) != 1:
        return None
    [name] = names
    if name == "latest":
        return find_sweep(name, outputs)
    if PATTERN.search(name):
        return None
    folder = find_run_or_sweep(name, outputs)
    return folder if isinstance(folder, SweepFolder) else None


def _sweep_texts(folder: SweepFolder, margin: float | None, page: Path | None) -> dict[str, Any]:
    from gptexp.comparing.sweep_results import sweep_results
    from gptexp.comparing.tables import sweep_csv
    from gptexp.comparing.terminal import sweep_text

    results = sweep_results(folder, margin)
    texts = {"terminal": sweep_text(results), "csv": sweep_csv(results), "json": results.as_json()}
    if page:
        from gptexp.pages.sweep_page import format_sweep_page

        texts["html"] = format_sweep_page(folder, results, page.parent)
    return texts


def _comparison_texts(
    names: list[str], outputs: Path, margin: float, each: bool, page: Path | None
) -> dict[str, Any]:
    from gptexp.comparing.compare_runs import compare
    from gptexp.comparing.tables import comparison_csv
    from gptexp.comparing.terminal import comparison_text

    subjects = find_subjects(names, outputs, each)
    if sum(len(subject.runs) for subject in subjects) < 2:
        raise UserError(
            f"{' '.join(names)}: is one run, and nothing to compare it with. Name another run or a sweep beside it"
        )
    comparison = compare(subjects, margin)
    texts = {
        "terminal": comparison_text(comparison),
        "csv": comparison_csv(comparison),
        "json": comparison.as_json(),
    }
    if page:
        from gptexp.pages.comparison_page import format_comparison_page

        command = " ".join(["gptexp compare", *map(quote_for_shell, sys.argv[1:])])
        texts["html"] = format_comparison_page(comparison, command, page.parent)
    return texts


def _without_infinities(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with null in place of numbers that JSON does not have."""
    return json.loads(json.dumps(values, default=str), parse_constant=lambda _: None)


if __name__ == "__main__":
    main()
