"""Progress of a long pass over data: a bar in a terminal or notebook, an occasional line elsewhere."""

import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import TqdmWarning

with warnings.catch_warnings():  # a notebook without ipywidgets shows the bar as text
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm as tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 30  # where there is no terminal


def is_interactive() -> bool:
    """Return whether a person watches stderr, in a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def track_progress(
    items: Iterable[Item], description: str, unit: str = "examples", total: int | None = None
) -> Iterator[Item]:
    """Yield the items and show on stderr how many there were. A pass of less than two seconds shows nothing."""
    if is_interactive():
        yield from tqdm(
            items,
            description,
            total,
            leave=False,
            unit=f" {unit}",
            mininterval=1,
            delay=2,
            dynamic_ncols=True,
        )
        return
    start = last_line = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if now - last_line > SECONDS_BETWEEN_LINES:
            last_line = now
            of_total = f" of {total:,}" if total else ""
            line = f"{description}: {number:,}{of_total} {unit} in {now - start:.0f} s"
            print(line, file=sys.stderr, flush=True)
        yield item
