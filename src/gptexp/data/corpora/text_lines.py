"""Read text files line by line, in any encoding, with the line ends of any system, compressed or not."""

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path

from gptexp.data.corpora.open_file import explain_damage, open_bytes
from gptexp.errors import UserError

UTF8 = ("utf-8", "utf8", "utf_8")
BYTE_ORDER_MARKS = {  # the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
C1_CONTROL = re.compile("[\x80-\x9f]")  # letters and punctuation in cp1252
MAX_EXCERPT = 60
HEAD_BYTES = 4096  # in which UTF-16 is recognised


def read_lines(file: Path, encoding: str, max_characters: int = -1) -> Iterator[str]:
    """Yield lines that end in "\\n"; a line of more than `max_characters` comes in parts, to bound the memory.

    A byte order mark is skipped, and says that a file is UTF-16 or UTF-32 although `encoding` is utf-8.

    Raises:
        UserError: the file is not text in this encoding, or damaged; the message names the line.
    """
    number = 1
    with explain_damage(file), open_bytes(file) as stream:
        codec = _codec(file, encoding)
        lines = io.TextIOWrapper(stream, codec, newline=None)
        try:
            while line := lines.readline(max_characters):
                if number == 1:
                    line = line.removeprefix("\ufeff")
                if "\0" in line:
                    raise UserError(_explain_nul(file, number))
                if codec == "iso8859-1" and (control := C1_CONTROL.search(line)):
                    raise UserError(_explain_control(file, number, encoding, control[0], line))
                yield line
                number += line.endswith("\n")
        except UnicodeDecodeError as error:
            raise UserError(_explain_decoding(file, number, encoding, codec, error)) from None
        except UnicodeError as error:  # utf-16 without a byte order mark, for example
            raise UserError(f"{file}: not {encoding} text ({error})") from None


def _codec(file: Path, encoding: str) -> str:
    """Return the name of Python's codec."""
    if encoding.lower() not in UTF8:
        try:
            "".encode(encoding)  # refuses codecs that are not of text, such as base64
            return codecs.lookup(encoding).name
        except (LookupError, ValueError):
            raise UserError(
                f"data.encoding={encoding}: Python knows no such encoding, for example utf-8, cp1252"
            ) from None
    with open_bytes(file) as stream:
        head = stream.read(4)
    marks = (codec for mark, codec in BYTE_ORDER_MARKS.items() if head.startswith(mark))
    return next(marks, "utf-8-sig")


def _explain_nul(file: Path, number: int) -> str:
    advice = (
        _suggest_utf16(file) or f"Delete them, with tr -d '\\000' < {file.name} > NEW for example"
    )
    return f"{file}, line {number}: has NUL bytes, which are not text. {advice}"


def _explain_control(file: Path, number: int, encoding: str, control: str, line: str) -> str:
    return (
        f"{file}, line {number}: byte 0x{ord(control):02x} is no character of {encoding}. "
        f"{_suggest_encoding(file, line.encode('latin-1'))}"
    )


def _explain_decoding(
    file: Path, number: int, encoding: str, codec: str, error: UnicodeDecodeError
) -> str:
    """Say which line cannot be decoded, and how it reads in cp1252, the usual encoding of Windows."""
    is_wide = codec.startswith(("utf-16", "utf-32"))
    before = error.object[: error.start].decode(codec if is_wide else "latin-1", "ignore")
    number += len(re.findall("\r\n|\r|\n", before))
    start = max(error.object.rfind(end, 0, error.start) for end in (b"\n", b"\r")) + 1
    line = re.split(b"[\r\n]", error.object[start:], maxsplit=1)[0]
    return (
        f"{file}, line {number}: not {encoding} text (byte 0x{error.object[error.start]:02x}: {error.reason}). "
        f"{_suggest_encoding(file, line)}"
    )


def _suggest_encoding(file: Path, line: bytes) -> str:
    if advice := _suggest_utf16(file):
        return advice
    others = "utf-16, cp1251, shift_jis or gb18030"
    try:
        text = line.decode("cp1252").strip()
    except UnicodeDecodeError:
        return f"Name its encoding with data.encoding=..., {others} for example"
    first = next((index for index, character in enumerate(text) if not character.isascii()), 0)
    excerpt = text[max(0, first - MAX_EXCERPT // 2) :][:MAX_EXCERPT]
    return (
        f"In cp1252, the encoding of Windows in Western Europe, it is: {excerpt!r}. If that is right, add "
        f"data.encoding=cp1252; otherwise name another, {others} for example"
    )


def _suggest_utf16(file: Path) -> str:
    """Return advice where most of every other byte at the beginning of a file is NUL; else ""."""
    with open_bytes(file) as stream:
        head = stream.read(HEAD_BYTES)
    for first, order in ((1, "le"), (0, "be")):
        others = head[1 - first :: 2]
        if head[first::2].count(0) > len(head) / 4 and others.count(0) < len(others) / 4:
            return f"Every other byte is NUL, as in UTF-16: try data.encoding=utf-16-{order}"
    return ""
