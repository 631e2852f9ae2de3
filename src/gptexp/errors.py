"""Errors and exit codes: 2 for wrong input, 1 for a failure, 75 for a run that a signal stopped."""

import difflib
import errno
import functools
import os
import sys
from collections.abc import Callable, Iterable

from gptexp import output
from gptexp.characters import reveal_invisible

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Failures of an operating-system call that are no mistake of the program, and what to do about each.
REMEDIES = {
    errno.EACCES: "Change its permissions, or choose another folder: outputs=FOLDER, cache=FOLDER",
    errno.EPERM: "Change its permissions, or choose another folder: outputs=FOLDER, cache=FOLDER",
    errno.EROFS: "Choose another folder: outputs=FOLDER, cache=FOLDER",
    errno.ENOTDIR: "A file is where a folder is needed: choose another name",
    errno.EEXIST: "A file is where a folder is needed: choose another name",
    errno.EISDIR: "A folder is where a file is needed: rename it",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 4096",
    errno.EIO: "Check the disk",
    errno.ESTALE: "Check the connection to the network disk",
}


class UserError(Exception):
    """The user's input is wrong. The message says what is wrong, what is accepted and what to type; exit code 2.

    Invisible characters in the message are replaced by their names.
    """

    code = 2

    def __init__(self, message: str) -> None:
        super().__init__(reveal_invisible(message))


class RunError(Exception):
    """A run failed for a reason that one message explains; no traceback, exit code 1."""

    code = 1


class OutOfMemoryError(RunError):
    """One rank of several ran out of memory: all ranks must restart with smaller micro-batches."""

    code = 76

    def __init__(self, micro_batch_size: int) -> None:
        super().__init__(
            f"out of memory: the same command continues, with micro-batches of {micro_batch_size}"
        )
        self.micro_batch_size = micro_batch_size


class Preempted(BaseException):
    """A signal stopped the run, and its progress is saved: exit code 75, EX_TEMPFAIL of sysexits.h.

    It is no Exception, so that a sweep does not continue with its next job.
    """

    code = 75


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" with the allowed name that is closest, or "" if none is close."""
    options = list(allowed)
    by_lower = {option.lower(): option for option in reversed(options)}
    matches = [
        by_lower[x] for x in difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    ]
    if not matches:  # `max_stepz` against `trainer.max_steps`: compare the last parts, too
        by_leaf = {key.rsplit(".", 1)[-1]: option for key, option in by_lower.items()}
        leaf = name.lower().rsplit(".", 1)[-1]
        leaves = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.75)
        matches = [by_leaf[leaf] for leaf in leaves]
    return f" Did you mean '{matches[0]}'?" if matches else ""


def unknown_value(key: str, value: str, allowed: Iterable[str]) -> UserError:
    """Return the error for a setting whose value is not one of the allowed names."""
    options = sorted(allowed)
    return UserError(
        f"{key}={value}: not known.{nearest(value, options)} Allowed: {', '.join(options)}"
    )


def is_disk_full(error: BaseException) -> bool:
    """Return whether there was no space to write to; libraries in Rust say so in the text alone."""
    return getattr(error, "errno", None) in DISK_FULL or "No space left" in str(error)


def explain_environment_error(error: Exception) -> RunError | None:
    """Return the message about a failure of the environment, such as a full disk; None for any other error."""
    if is_disk_full(error):
        place = getattr(error, "filename", None) or "the disk"
        return RunError(
            f"{place}: no space is left ({error}). Free some, or choose another disk: outputs=FOLDER for runs, "
            f"cache=FOLDER for prepared data, TMPDIR for temporary files. Then repeat the command"
        )
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return RunError(
            f"{error.filename or 'a file'}: {error.strerror}. {REMEDIES[error.errno]}. "
            f"Then repeat the command"
        )
    return None


def explain_error(error: BaseException) -> UserError | RunError | None:
    """Return the error whose one message explains a failure; None: nobody but a programmer can."""
    if isinstance(error, UserError | RunError):
        return error
    return explain_environment_error(error) if isinstance(error, Exception) else None


def describe_error(error: BaseException) -> str:
    """Return the reason of a failure for result.json: the message for the user, or else the exception."""
    explained = error if isinstance(error, Preempted) else explain_error(error)
    return str(explained) if explained else repr(error)


def exits_cleanly(verb: Callable[[], None]) -> Callable[[], None]:
    """Decorate a verb so that it ends with one message and the exit code of its error."""

    @functools.wraps(verb)
    def run_verb() -> None:
        output.open_missing_streams()
        output.escape_unencodable_characters()
        with output.unfailing_output("stderr"):
            _run_verb(verb)

    return run_verb


def _run_verb(verb: Callable[[], None]) -> None:
    try:
        check_is_text(sys.argv[1:])
        _check_current_folder()
        verb()
        sys.stdout.flush()
    except (UserError, RunError) as error:
        print(f"gptexp: {error}", file=sys.stderr)
        sys.exit(error.code)
    except Preempted as stopped:
        print(f"gptexp: stopped by {stopped}; the same command continues", file=sys.stderr)
        sys.exit(Preempted.code)
    except KeyboardInterrupt:
        print("gptexp: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `gptexp generate ... | head`: the reader is gone
        output.redirect_to_null(sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        explained = explain_environment_error(error)
        if explained is None:
            raise
        output.drop_unwritten_output()
        print(f"gptexp: {explained}", file=sys.stderr)
        sys.exit(explained.code)


def _check_current_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the current folder: {error.strerror}. Type: cd to a folder that exists"
        ) from None


def check_is_text(words: Iterable[str]) -> None:
    """Refuse words of a command that are no text in the encoding of the terminal.

    Raises:
        UserError: a word has bytes that do not decode.
    """
    for word in words:
        try:
            word.encode("utf8")
        except UnicodeError:
            raise UserError(
                f"{word!r}: has bytes that are not text in this terminal's encoding, "
                f"{sys.getfilesystemencoding()}. Set LC_ALL=C.UTF-8, or rename the file"
            ) from None
