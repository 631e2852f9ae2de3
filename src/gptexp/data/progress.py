"""Progress of a pass over data: a bar in a terminal or notebook, an occasional line elsewhere."""

import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

from tqdm import TqdmWarning

from gptexp.stages import FIRST_SECONDS, stage

with warnings.catch_warnings():  # a notebook without ipywidgets shows the bar as text
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm as tqdm

Item = TypeVar("Item")


def is_interactive() -> bool:
    """Return whether a person watches stderr, in a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def track_progress(
    items: Iterable[Item], description: str, unit: str = "examples", total: int | None = None
) -> Iterator[Item]:
    """Yield the items and show on stderr how many there were. A pass of less than two seconds shows nothing.

    The time before the first item is not part of it: a source that prepares its items reports that itself.
    """
    iterator = iter(items)
    with stage(description):
        first = list(islice(iterator, 1))
    items = chain(first, iterator)
    if is_interactive():
        with stage(description, is_quiet=True):
            yield from tqdm(
                items,
                description,
                total,
                leave=False,
                unit=f" {unit}",
                mininterval=1,
                delay=FIRST_SECONDS,
                dynamic_ncols=True,
            )
        return
    start = time.monotonic()
    number = 0

    def describe() -> str:
        if not total or not number:
            return f"{description}: {number:,}{f' of {total:,}' if total else ''} {unit}"
        left = (time.monotonic() - start) * (total - number) / number
        return f"{description}: {number:,} of {total:,} {unit}, {left:.0f} s left"

    with stage(describe):
        for number, item in enumerate(items):  # noqa: B007  `describe` reads it
            yield item
