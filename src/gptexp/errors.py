"""Errors and exit codes: 2 for wrong input, 1 for a failure, 75 for a run that a signal stopped."""

import difflib
import functools
import os
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """The user's input is wrong. The message says what is wrong, what is accepted and what to type; exit code 2."""

    code = 2


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
    matches = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if not matches:  # `max_stepz` against `trainer.max_steps`: compare the last parts, too
        by_leaf = {option.rsplit(".", 1)[-1]: option for option in reversed(options)}
        leaves = difflib.get_close_matches(name.rsplit(".", 1)[-1], by_leaf, n=1, cutoff=0.75)
        matches = [by_leaf[leaf] for leaf in leaves]
    return f" Did you mean '{matches[0]}'?" if matches else ""


def unknown_value(key: str, value: str, allowed: Iterable[str]) -> UserError:
    """Return the error for a setting whose value is not one of the allowed names."""
    options = sorted(allowed)
    return UserError(
        f"{key}={value}: not known.{nearest(value, options)} Allowed: {', '.join(options)}"
    )


def exits_cleanly(verb: Callable[[], None]) -> Callable[[], None]:
    """Decorate a verb so that it ends with one message and the exit code of its error."""

    @functools.wraps(verb)
    def run_verb() -> None:
        try:
            verb()
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
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)

    return run_verb
