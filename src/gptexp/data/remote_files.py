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
NEEDS_HOST = ("http", "https", "s3", "s3a", "gs", "gcs", "ftp")  # or the name of a bucket
# Errors of botocore and google-auth that another attempt does not help.
KEY_ERRORS = (
    "DefaultCredentialsError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "SSOTokenLoadError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
)
# Errors of botocore and aiohttp about an address, and those that fsspec's packages raise for a setting.
SETTING_ERRORS = ("InvalidURL", "NoRegionError", "ParamValidationError", "ValueError")

Result = TypeVar("Result")


class RemoteDataError(RunError):
    """A server does not give the data, which may pass. A run in training is saved and stops."""

    is_lasting = False


class LastingDataError(RemoteDataError):
    """A server does not give the data until somebody does what the message says."""

    is_lasting = True


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
        UserError: nothing can be read from the URL. RemoteDataError: the server does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            address = urlsplit(url)
            _ = address.port  # raises an error if it is none
        except ValueError as error:
            raise UserError(f"data.path={url}: {error}") from None
        if address.query or "@" in address.netloc:
            raise UserError(
                f"data.path={address.scheme}://...: has a password or a query, which the run folder would keep. "
                f"Leave it out: the package for {address.scheme}:// reads keys from the environment and from its files"
            )
        if address.scheme in NEEDS_HOST and not address.netloc:
            raise UserError(
                f"data.path={url}: names no host or bucket. Type {address.scheme}://NAME/FOLDER"
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
        except Exception as error:  # some packages connect here
            raise self._explain(error) from None

    def sizes(self, names: Sequence[str], patience: float) -> list[int | None]:
        """Return the size in bytes of each file; None where the server does not tell it."""

        def request_sizes() -> list[int | None]:
            try:
                return self.filesystem.sizes([self._path(name) for name in names])
            except FileNotFoundError:
                self._raise_missing(names)
                raise

        return self._repeat(request_sizes, patience)

    def _raise_missing(self, names: Sequence[str]) -> None:
        """Raise an error that names the first file that is not there."""
        for name in names:
            try:
                self.filesystem.info(self._path(name))
            except FileNotFoundError as error:
                raise _FileError(name, error) from None

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
                reason = self._explain(error)
                if reason.is_lasting:
                    raise reason from None
                if time.monotonic() + wait > deadline:
                    raise RemoteDataError(
                        f"{reason} (for {patience:g} s)" if patience else str(reason)
                    ) from None
            if not is_reported:
                print(f"{reason}. Trying again for {patience:g} s", file=sys.stderr)
                is_reported = True
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def _explain(self, error: Exception) -> RemoteDataError:
        """Return the error with the reason of a failure; one that lasts says what to do."""
        name, cause = "", error
        if isinstance(error, _FileError):
            name, cause = error.name, error.cause
        answer = cause.__cause__  # fsspec takes any answer but a size for a missing file
        if isinstance(cause, FileNotFoundError) and isinstance(answer, Exception):
            cause = answer if hasattr(answer, "status") else cause
        reason = f"data.path={self.url}{name and '/'}{name}: {_describe(cause)}"
        advice = _advise(cause, name)
        return LastingDataError(f"{reason}. {advice}") if advice else RemoteDataError(reason)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"


def _check_length(piece: FileRange, answer: Any) -> bytes | Exception:
    """Return the answer to a range, or the error that it does not have its length."""
    if isinstance(answer, Exception) or piece.end is None:
        return answer
    size = piece.end - piece.start
    if len(answer) > size:
        return _RangeError(f"the server sends {len(answer):,} bytes where {size:,} are requested")
    if len(answer) < size:
        return OSError(f"{size:,} bytes are requested, and {len(answer):,} came")
    return answer


def _describe(cause: Exception) -> str:
    """Return the reason of a failed request."""
    status = getattr(cause, "status", None)  # of aiohttp, whose text has the URL again
    if isinstance(cause, FileNotFoundError) or status == 404:
        return "there is no such file"
    if isinstance(cause, PermissionError) or status in (401, 403):
        return "no permission to read it"
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(status, int):
        return f"the server answers {status} {getattr(cause, 'message', '')}".rstrip()
    return " ".join(str(cause).split())[:200].rstrip(".") or type(cause).__name__


def _advise(cause: Exception, name: str) -> str:
    """Return what to do about a failure that lasts; "" for one that may pass."""
    status, kind = getattr(cause, "status", None), type(cause).__name__
    if isinstance(cause, FileNotFoundError) or status == 404:
        if name in ("", "meta.json"):
            return "Give the address of a folder that holds a token store"
        return "Copy the store there again"
    if isinstance(cause, PermissionError) or status in (401, 403) or kind in KEY_ERRORS:
        return "Give this machine keys that may read it (docs/data-at-scale.md)"
    if isinstance(cause, _RangeError):
        return "It does not support ranges of bytes: give the address of a server that does"
    is_refused = isinstance(status, int) and 400 <= status < 500 and status not in TRANSIENT_STATUS
    if is_refused or kind in SETTING_ERRORS or isinstance(cause, ImportError):
        return "Correct the address, or the settings of the server"
    return ""
