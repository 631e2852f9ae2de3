"""Watch runs and sweeps in the terminal: their state, loss curve, speed and time left.

python -m gptexp.watch
python -m gptexp.watch translate-nano-1a2b3c4d sweep-lr-5e6f7a8b
python -m gptexp.watch --once

It reads what lies in outputs/, whoever writes it. A run whose process is gone is `killed`: the same command continues
it. A + behind the time left says that the final evaluation comes on top. Key: q ends it; the runs go on.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live

from gptexp.cli import print_json
from gptexp.command_line import CommandParser, add_outputs_option
from gptexp.errors import UserError, exits_cleanly
from gptexp.watching.folder_state import FolderState
from gptexp.watching.run_progress import state_json
from gptexp.watching.view import draw

POLL = 0.1  # seconds between two looks at the keyboard


@exits_cleanly
def main() -> None:
    parser = CommandParser("watch", __doc__)
    parser.add_argument(
        "names", nargs="*", metavar="RUN", help="runs and sweeps to follow (default: all)"
    )
    add_outputs_option(parser)
    parser.add_argument(
        "--every",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="time between two looks (default: 2)",
    )
    parser.add_argument("--once", action="store_true", help="print the view once")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, once")
    args = parser.parse_args()
    outputs = Path(args.outputs).expanduser()
    if not 0.1 <= args.every <= 3600:
        raise UserError(f"--every {args.every:g}: must be between 0.1 and 3600 seconds")
    if not outputs.is_dir() and not args.names:
        raise UserError(
            f"--outputs {args.outputs}: there is no such folder. Runs are written to outputs/ of the folder where "
            f"gptexp run is started, or to outputs=FOLDER of its command"
        )
    state = FolderState(outputs, args.names)
    state.update()
    if args.json:
        runs = [state_json(run, state.evaluation_seconds(run)) for run in state.sorted_runs()]
        sweeps = [
            {"sweep": str(path), "state": sweep.state, "jobs": sweep.summary()}
            for path, sweep in state.sweeps.items()
        ]
        print_json({"runs": runs, "sweeps": sweeps})
        return
    console = Console(highlight=False, markup=False, emoji=False)
    if args.once or not console.is_terminal:
        console.print(draw(state, console.width, is_unicode=_is_unicode()))
        return
    try:
        _follow(console, state, args.every)
    except KeyboardInterrupt:
        return


def _follow(console: Console, state: FolderState, every: float) -> None:
    """Draw the view again and again until q is typed."""
    signal.signal(signal.SIGTERM, _end)  # so that the terminal gets back its screen and its keys
    with (
        Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
        _single_keys(),
    ):
        while True:
            live.update(
                draw(state, console.width, console.height, is_unicode=_is_unicode()), refresh=True
            )
            if _wait_for_quit(every):
                return
            state.update()


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


@contextmanager
def _single_keys() -> Iterator[None]:
    """Let the terminal pass on each key at once, and not show it."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _wait_for_quit(seconds: float) -> bool:
    """Wait; return whether q was typed meanwhile."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if not sys.stdin.isatty():
            time.sleep(min(POLL, left))
            continue
        is_typed = select.select([sys.stdin], [], [], min(POLL, left))[0]
        if is_typed and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q", b""):
            return True
    return False


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


if __name__ == "__main__":
    main()
