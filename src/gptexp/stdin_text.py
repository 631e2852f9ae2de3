"""Text from stdin and from the command line, in any locale and with line ends of any system."""

import io
import sys

from gptexp.errors import UserError


def read_stdin_as_utf8() -> None:
    """Let stdin give the bytes that are not UTF-8 as `decode_text` takes them."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape", newline=None)


def decode_text(text: str) -> str:
    """Return the text, also where Python has read its bytes in a locale without UTF-8.

    Raises:
        UserError: it has bytes that are not UTF-8.
    """
    try:
        return text.encode("utf8", "surrogateescape").decode("utf8")
    except UnicodeError as error:
        raise UserError(f"the prompt is not UTF-8 text ({error})") from None
