"""The one exception that means "the user's input is wrong", and how a verb ends on it."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """What was given, what is allowed, what to do: shown without a traceback, exit code 2."""


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
    return UserError(f"{what}={given}: not known.{nearest(given, options)} Allowed: {', '.join(options)}")


def exit_on_user_error(verb: Callable[[], None]) -> None:
    """Run a verb; exit 2 with one message on a UserError, 130 on Ctrl-C."""
    try:
        verb()
    except UserError as error:
        print(f"gptexp: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("gptexp: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `gptexp generate ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
