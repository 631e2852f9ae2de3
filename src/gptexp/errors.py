"""How a verb ends: exit code 2 for wrong input, 1 for a failure, 75 for a run that was asked to stop."""

import difflib
import functools
import os
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """What was given, what is allowed, what to do: shown without a traceback, exit code 2."""

    code = 2


class RunError(Exception):
    """A run failed for a reason that one message explains: shown without a traceback, exit code 1."""

    code = 1


class OutOfMemoryError(RunError):
    """One rank of several had too little memory; all have to start again with smaller micro-batches."""

    code = 76

    def __init__(self, micro_batch_size: int) -> None:
        super().__init__(
            f"out of memory: the same command goes on, with micro-batches of {micro_batch_size}"
        )
        self.micro_batch_size = micro_batch_size


class Preempted(BaseException):
    """A signal asked the run to stop, and what there was to save is saved: exit code 75, run the command again.

    75 is EX_TEMPFAIL of sysexits.h. Not an Exception, so that a sweep does not go on with its next job.
    """

    code = 75


def nearest(given: str, allowed: Iterable[str]) -> str:
    """`" Did you mean 'x'?"`, or nothing where no allowed name is close."""
    options = list(allowed)
    found = difflib.get_close_matches(given, options, n=1, cutoff=0.6)
    if not found:  # `max_stepz` against `trainer.max_steps`: compare the last parts too
        by_leaf = {option.rsplit(".", 1)[-1]: option for option in reversed(options)}
        leaf = difflib.get_close_matches(given.rsplit(".", 1)[-1], by_leaf, n=1, cutoff=0.75)
        found = [by_leaf[name] for name in leaf]
    return f" Did you mean '{found[0]}'?" if found else ""


def unknown(what: str, given: str, allowed: Iterable[str]) -> UserError:
    options = sorted(allowed)
    return UserError(
        f"{what}={given}: not known.{nearest(given, options)} Allowed: {', '.join(options)}"
    )


def exits_cleanly(verb: Callable[[], None]) -> Callable[[], None]:
    """A verb that ends with one message and the exit code that says what happened."""

    @functools.wraps(verb)
    def ending() -> None:
        try:
            verb()
        except (UserError, RunError) as error:
            print(f"gptexp: {error}", file=sys.stderr)
            sys.exit(error.code)
        except Preempted as stopped:
            print(f"gptexp: stopped by {stopped}; the same command goes on", file=sys.stderr)
            sys.exit(Preempted.code)
        except KeyboardInterrupt:
            print("gptexp: interrupted", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:  # `gptexp generate ... | head`: the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)

    return ending
