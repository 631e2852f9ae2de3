"""How far a long pass over data is: a bar on a terminal or in a notebook, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")
QUIET_SECONDS = 30  # between two lines where there is no terminal


def is_interactive() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def shown(
    items: Iterable[Item], doing: str, unit: str = "examples", total: int | None = None
) -> Iterator[Item]:
    """The same items; what takes less than two seconds shows nothing."""
    if is_interactive():
        yield from tqdm(
            items,
            doing,
            total,
            leave=False,
            unit=f" {unit}",
            mininterval=1,
            delay=2,
            dynamic_ncols=True,
        )
        return
    started = said_at = time.monotonic()
    for number, item in enumerate(items):
        if (now := time.monotonic()) - said_at > QUIET_SECONDS:
            said_at = now
            of_all = f" of {total:,}" if total else ""
            print(
                f"{doing}: {number:,}{of_all} {unit} in {now - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        yield item
