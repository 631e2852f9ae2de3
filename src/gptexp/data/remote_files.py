"""Files below a URL, read through fsspec: s3://, gs://, https:// and others."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from gptexp.errors import RunError, UserError
from gptexp.extras import require_extra

REQUEST_SECONDS = 60.0  # that the answers to one call may take
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0  # between attempts
PATIENCE_SECONDS = (
    300.0  # with a server that does not answer; ranks wait for each other for ten minutes
)
TRANSIENT_STATUS = (408, 425, 429)  # of HTTP, and all from 500 on

Result = TypeVar("Result")


class RemoteDataError(RunError):
    """A server does not give the data. A run in training is saved and stops."""


class FileRange(NamedTuple):
    """The bytes of a file from `start` to before `end`; an `end` of None is that of the file."""

    name: str
    start: int = 0
    end: int | None = None


class _FileError(Exception):
    """A request for a file failed."""

    def __init__(self, name: str, cause: Exception) -> None:
        super().__init__(name)
        self.name, self.cause = name, cause


class _RangeError(Exception):
    """A server answers a range with more bytes than it has."""


class RemoteFiles:
    """Reads the files of a folder that a URL names. Failed requests are repeated for a while, ever less often.

    Raises:
        UserError: nothing can be read from the URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            address = urlsplit(url)
        except ValueError as error:
            raise UserError(f"data.path={url}: {error}") from None
        if address.query or "@" in address.netloc:
            raise UserError(
                f"data.path={address.scheme}://...: has a password or a query, which the run folder would keep. "
                f"Leave it out: the package for {address.scheme}:// reads keys from the environment and from its files"
            )
        self.connect()

    def connect(self) -> None:
        """Open a connection; a process that was forked needs one of its own."""
        import fsspec

        scheme = urlsplit(self.url).scheme
        if scheme not in fsspec.available_protocols():
            raise UserError(
                f"data.path={self.url}: fsspec knows no protocol {scheme}://. It knows s3://, gs://, https://, "
                f"file:// and others"
            )
        if scheme in ("s3", "s3a"):
            require_extra("s3", ["s3fs"])
        try:
            self.filesystem, self.root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:  # an ImportError names the package
            raise UserError(f"data.path={self.url}: {error}") from None

    def sizes(self, names: Sequence[str], patience: float) -> list[int | None]:
        """Return the size in bytes of each file; None where the server does not tell it."""
        return self._repeat(
            lambda: self.filesystem.sizes([self._path(name) for name in names]), patience
        )

    def download(self, name: str, target: Path, patience: float) -> None:
        """Copy a file to this machine."""

        def get_file() -> None:
            try:
                self.filesystem.get_file(self._path(name), str(target))
            except Exception as error:
                raise _FileError(name, error) from None

        self._repeat(get_file, patience)

    def read(self, ranges: Sequence[FileRange], patience: float = PATIENCE_SECONDS) -> list[bytes]:
        """Return the bytes of each range; all are requested together.

        Args:
            patience: seconds for which failed requests are repeated.

        Raises:
            RemoteDataError: a file is not there, or the server has not given a range for so long.
        """
        contents: dict[FileRange, bytes] = {}

        def request_rest() -> None:
            failures = []
            rest = [piece for piece in ranges if piece not in contents]
            for piece, answer in zip(rest, self._request(rest), strict=True):
                if isinstance(answer, bytes):
                    contents[piece] = answer
                else:
                    failures.append(_FileError(piece.name, answer))
            if failures:
                raise failures[0]

        self._repeat(request_rest, patience)
        return [contents[piece] for piece in ranges]

    def _request(self, ranges: Sequence[FileRange]) -> list[bytes | Exception]:
        """Return the answer to each range, or why there is none."""
        paths = [self._path(piece.name) for piece in ranges]
        starts, ends = [piece.start for piece in ranges], [piece.end for piece in ranges]
        options = {"timeout": REQUEST_SECONDS} if self.filesystem.async_impl else {}
        try:
            answers = self.filesystem.cat_ranges(paths, starts, ends, on_error="return", **options)
        except Exception as error:  # all of them took too long, for example
            answers = [error] * len(ranges)
        return [_check_length(*pair) for pair in zip(ranges, answers, strict=True)]

    def _repeat(self, call: Callable[[], Result], patience: float) -> Result:
        """Return what `call` returns, after as many attempts as `patience` seconds allow."""
        deadline = time.monotonic() + patience
        wait, is_reported = FIRST_WAIT_SECONDS, False
        while True:
            try:
                return call()
            except Exception as error:
                reason = self._describe(error)
                if not _is_transient(getattr(error, "cause", error)):
                    raise RemoteDataError(reason) from None
                if time.monotonic() + wait > deadline:
                    raise RemoteDataError(
                        f"{reason} (for {patience:g} s)" if patience else reason
                    ) from None
            if not is_reported:
                print(f"{reason}. Trying again for {patience:g} s", file=sys.stderr)
                is_reported = True
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def _describe(self, error: Exception) -> str:
        place, cause = self.url, error
        if isinstance(error, _FileError):
            place, cause = f"{self.url}/{error.name}", error.cause
        match cause:
            case FileNotFoundError():
                reason = "there is no such file"
            case PermissionError():
                reason = "no permission to read it"
            case TimeoutError():
                reason = "no answer in time"
            case _:
                reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        return f"data.path={place}: {reason}"

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"


def _check_length(piece: FileRange, answer: Any) -> bytes | Exception:
    """Return the answer to a range, or the error that it does not have its length."""
    if isinstance(answer, Exception) or piece.end is None:
        return answer
    size = piece.end - piece.start
    if len(answer) > size:
        return _RangeError(
            f"the server sends {len(answer):,} bytes where {size:,} are requested: it does not support ranges"
        )
    if len(answer) < size:
        return OSError(f"{size:,} bytes are requested, and {len(answer):,} came")
    return answer


def _is_transient(error: BaseException) -> bool:
    """Return whether another attempt can help."""
    status = getattr(error, "status", None)  # of aiohttp
    if isinstance(status, int) and 400 <= status < 500:
        return status in TRANSIENT_STATUS
    return not isinstance(error, FileNotFoundError | PermissionError | _RangeError)
