"""Lack of memory: how torch reports it, and what a run says when smaller batches do not help."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gptexp.errors import RunError
from gptexp.wording import first_line

# Parts of messages: of torch's allocators, CUDA and its driver, NCCL, cuBLAS and cuDNN.
SIGNS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",
    "allocation_failed",
    "cudaerrormemoryallocation",
    "failed to cuda malloc",
    "failed to cuda calloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is for lack of memory; except in torch's own allocator, only its text says so."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


@contextmanager
def explain_out_of_memory() -> Iterator[None]:
    """Raise RunError for lack of memory that smaller micro-batches do not mend, as in the optimizer's first step."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = first_line(error)
        raise RunError(
            f"out of memory ({reason}) outside of a micro-batch, so smaller ones do not help: use a smaller model, or "
            f"trainer.strategy=fsdp on more devices, which share weights, gradients and the optimizer's state"
        ) from None
