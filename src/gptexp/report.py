"""Write the page of a run or a sweep, or one page about several: verdicts, curves over each other, samples.

python -m gptexp.report
python -m gptexp.report translate-nano-1a2b3c4d
python -m gptexp.report 'outputs/translate-nano-*' --html translations.html

Every run and every sweep writes its page, report.html in its folder, when it ends. This command writes it anew, also
while a run goes on. A page is one file that needs no other and no network. The last line on stdout is its path.
"""

import sys
from pathlib import Path

from gptexp.cli import print_json
from gptexp.command_line import CommandParser, add_outputs_option, output_file, quote_for_shell
from gptexp.comparing.subjects import PATTERN, find_subjects
from gptexp.errors import exits_cleanly
from gptexp.files import write_text
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import SweepFolder, find_run_or_sweep

SEVERAL = Path("report.html")  # where a page about several runs goes


@exits_cleanly
def main() -> None:
    parser = CommandParser("report", __doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="RUN",
        help="runs and sweeps: folders, names, or patterns in quotes (default: latest)",
    )
    parser.add_argument(
        "--html",
        metavar="FILE",
        help="file to write (default: report.html in the folder of the run or sweep; of several, in this folder)",
    )
    add_outputs_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    args = parser.parse_args()
    file = output_file("html", args.html)
    path = _write_page(args.names or ["latest"], Path(args.outputs).expanduser(), file)
    if args.json:
        print_json({"page": str(path), "bytes": path.stat().st_size})
    else:
        print(path)


def _write_page(names: list[str], outputs: Path, file: Path | None) -> Path:
    """Write the page about what the names say, and return its path."""
    single = _find_single(names, outputs)
    if isinstance(single, SweepFolder):
        from gptexp.comparing.sweep_results import sweep_results
        from gptexp.pages.sweep_page import format_sweep_page

        path = file or single.report_file
        text = format_sweep_page(single, sweep_results(single), path.parent)
    elif single is not None:
        from gptexp.pages.run_page import format_run_page

        path = file or single.report_file
        text = format_run_page(single, path.parent)
    else:
        from gptexp.comparing.compare_runs import compare
        from gptexp.pages.comparison_page import format_comparison_page

        path = file or SEVERAL
        command = " ".join(["gptexp report", *map(quote_for_shell, sys.argv[1:])])
        comparison = compare(find_subjects(names, outputs))
        text = format_comparison_page(comparison, command, path.parent)
    write_text(path, text)
    return path


def _find_single(names: list[str], outputs: Path) -> RunFolder | SweepFolder | None:
    """Return the run or sweep that is named alone; None: there are several names, or a pattern."""
    if len(names) > 1 or (PATTERN.search(names[0]) and not Path(names[0]).exists()):
        return None
    return find_run_or_sweep(names[0], outputs)


if __name__ == "__main__":
    main()
