"""Chat in a terminal, or with one message a line of stdin: `gptexp.generate RUN --chat`."""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from gptexp.errors import UserError
from gptexp.stdin_text import decode_text

if TYPE_CHECKING:
    from gptexp.sampling import Sampling
    from gptexp.tasks.chat_session import ChatSession

HELP = (
    "/reset forgets the conversation, /system TEXT sets the system prompt, Ctrl-D ends; "
    "a line that ends with \\ goes on in the next"
)
PROMPT = "> "
COMMAND = re.compile(r"/[a-z]+(\s|$)", re.IGNORECASE)  # a blank in front makes a message of it


def chat_in_terminal(session: "ChatSession", sampling: "Sampling", stop: list[str]) -> None:
    """Answer each line of stdin, with all lines and answers before it, until the end of the input.

    A line that ends with a backslash goes on in the next one.
    Answers go to stdout while they are generated, prompts and notes to stderr. Ctrl-C ends an answer.

    Raises:
        ValueError: see `Generator.generate`.
    """
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        print(HELP, file=sys.stderr)
    had_cuts = False
    for line in _join_continued(_read_lines(is_terminal)):
        try:
            line = decode_text(line)
        except UserError as error:
            if not is_terminal:
                raise
            print(f"{error}: type it again", file=sys.stderr)
            continue
        command, _, rest = line.strip().partition(" ")
        if command == "/reset" and not rest:
            session.reset()
        elif command == "/system":
            session.reset(system=rest.strip())
        elif COMMAND.match(line):
            print(f"{line.strip()}: there is no such command; {HELP}", file=sys.stderr)
        elif line.strip():
            _print_answer(session, line, sampling, stop)
            if session.has_cuts and not had_cuts:
                print("the oldest messages no longer fit into the context", file=sys.stderr)
            if session.unread and (not session.has_cuts or "beginning" in session.unread):
                note = "the model does not read the message as it is written"
                print(f"{note}: {session.unread}", file=sys.stderr)
            had_cuts = session.has_cuts


def _print_answer(session: "ChatSession", text: str, sampling: "Sampling", stop: list[str]) -> None:
    is_terminal = sys.stdout.isatty()
    try:
        for piece in session.ask(text, sampling, stop):
            print(without_controls(piece) if is_terminal else piece, end="", flush=True)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    print(flush=True)


def _join_continued(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines together with those that they go on in."""
    parts: list[str] = []
    for line in lines:
        parts.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            yield "\n".join(parts)
            parts = []
    if parts:
        yield "\n".join(parts)


def _read_lines(is_terminal: bool) -> Iterator[str]:
    """Yield the lines of stdin. In a terminal, they can be edited, and each is asked for."""
    if not is_terminal:
        for line in sys.stdin:
            yield line.rstrip("\n")
        return
    if sys.stdout.isatty():  # otherwise, Python prints the prompt to stdout
        with suppress(ImportError):  # Windows has none
            import readline  # noqa: F401  input() reads by it

        while True:
            try:
                yield input(PROMPT)
            except EOFError:
                print(file=sys.stderr)
                return
            except KeyboardInterrupt:
                print("\nCtrl-D ends the chat", file=sys.stderr)
    while True:
        print(PROMPT, end="", file=sys.stderr, flush=True)
        if not (line := sys.stdin.readline()):
            return
        yield line.rstrip("\n")


def without_controls(text: str) -> str:
    """Return a text without the control characters that a terminal obeys; line ends and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
