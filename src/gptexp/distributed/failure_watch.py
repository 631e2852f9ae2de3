"""Failures of other ranks: a process that waits for a rank that has failed ends, instead of waiting for half an hour.

Our launcher and torchrun end the other processes on their machine; srun does not, nor does torchrun on other machines.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from gptexp.distributed.environment import ProcessInfo
from gptexp.errors import describe_error

POLL_SECONDS = 1.0
GRACE_SECONDS = 5.0  # in which a rank may end by itself: the failure may be its own, too
CONNECT_TIMEOUT = timedelta(seconds=30)


@contextmanager
def watch_failures(
    process: ProcessInfo, name: str, record: Callable[[str], None]
) -> Iterator[None]:
    """Tell all ranks when the block fails on this one; end this process soon after it has failed on another.

    Args:
        name: of the block, the same on all ranks, and of no other block.
        record: called with the reason before this process ends.
    """
    store, key, is_over = _connect(), f"failure in {name}", threading.Event()
    arguments = (store, key, is_over, record)
    thread = threading.Thread(target=_watch, args=arguments, daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        with suppress(RuntimeError):  # rank zero, which may hold the store, is gone
            if not store.check([key]):
                store.set(key, f"rank {process.rank} failed: {describe_error(error)}")
                if process.is_rank_zero:  # let the others read the reason first
                    time.sleep(2 * POLL_SECONDS)
        raise
    finally:
        is_over.set()


def _watch(store: Store, key: str, is_over: threading.Event, record: Callable[[str], None]) -> None:
    while not is_over.wait(POLL_SECONDS):
        try:
            reason = store.get(key).decode() if store.check([key]) else ""
        except RuntimeError:
            reason = "the connection to rank zero is lost"
        if not reason:
            continue
        if not is_over.wait(GRACE_SECONDS):
            record(reason)
            print(f"gptexp: {reason}; this rank ends, too", file=sys.stderr, flush=True)
            os._exit(1)
        return


def _connect() -> Store:
    """Return a connection of its own: the one of the process group is locked while a collective waits in it."""
    return dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=CONNECT_TIMEOUT,
    )
