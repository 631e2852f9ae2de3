"""Progress of a pass over data: a bar in a terminal or notebook, an occasional line elsewhere."""

import sys
import warnings
from collections.abc import Iterable, Iterator
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
    """Yield the items and show on stderr how many there were. A pass of less than two seconds shows nothing."""
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
    number = 0

    def describe() -> str:
        return f"{description}: {number:,}{f' of {total:,}' if total else ''} {unit}"

    with stage(describe):
        for number, item in enumerate(items):  # noqa: B007  `describe` reads it
            yield item
