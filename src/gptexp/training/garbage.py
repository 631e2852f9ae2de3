"""Python's garbage collector during training, and after it."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def freeze_garbage(device: torch.device) -> Iterator[None]:
    """Keep the collector from searching what exists already: on a GPU, other ranks wait for the one that searches.

    The libraries alone have hundreds of thousands of objects.
    """
    if device.type != "cuda":
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def free_memory(device: torch.device) -> None:
    """Free objects in reference cycles, and the memory of a GPU that they had.

    Searching all objects takes a quarter of a second: on a CPU, Python decides when.
    """
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
