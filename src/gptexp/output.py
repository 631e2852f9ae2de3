"""Output that cannot fail a run: in a terminal that knows only ASCII, with a reader that is gone, on a full disk."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STANDARD_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}


class UnfailingOutput(io.TextIOWrapper):
    """Writes to the descriptor of a stream; escapes what its encoding lacks, and drops what nobody can receive."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(
            open(stream.fileno(), "wb", closefd=False),  # noqa: SIM115  the stream owns the descriptor
            stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering or stream.write_through,
        )

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._discard()

    def _discard(self) -> None:
        """Send this output, and what is still in its buffer, to the null device from now on."""
        redirect_to_null(self.fileno())
        super().flush()


def redirect_to_null(descriptor: int) -> None:
    """Open the null device under the number of a descriptor."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
    os.set_inheritable(descriptor, True)


def open_missing_streams() -> None:
    """Open the null device for each standard stream that the shell has closed (`>&-`).

    Python sets such a stream to None, and the next file that is opened would get its descriptor.
    """
    for name, descriptor in STANDARD_STREAMS.items():
        if getattr(sys, name) is None:
            redirect_to_null(descriptor)
            mode = "r" if descriptor == 0 else "w"
            setattr(sys, name, open(descriptor, mode, encoding="utf8", closefd=False))  # noqa: SIM115


def escape_unencodable_characters() -> None:
    """Let stdout and stderr print characters that their encoding lacks as escapes, such as \\u2192."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_unwritten_output() -> None:
    """Forget what stdout cannot write, so that the interpreter does not try again at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        redirect_to_null(sys.stdout.fileno())


@contextmanager
def unfailing_output(*names: str) -> Iterator[None]:
    """Let nothing that is printed to these streams raise inside the context.

    Streams that are no files, such as those of a notebook or of a test, stay as they are.
    """
    replaced = {
        name: stream for name in names if type(stream := getattr(sys, name)) is io.TextIOWrapper
    }
    for name, stream in replaced.items():
        output = UnfailingOutput(stream)
        try:
            stream.flush()
        except OSError:
            redirect_to_null(stream.fileno())
        setattr(sys, name, output)
    try:
        yield
    finally:
        for name, stream in replaced.items():
            getattr(sys, name).flush()
            setattr(sys, name, stream)
