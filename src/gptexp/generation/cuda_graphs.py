"""Replay the kernels of a function as one CUDA graph, so that a GPU does not wait for Python to launch them."""

import warnings
from collections.abc import Callable, Hashable
from contextlib import suppress

import torch
from torch import Tensor


class CudaGraphs:
    """Graphs of functions that read and write the same tensors, of the same shapes, in every call.

    The first call of a function runs it, which also prepares its kernels. The second records it, and from then on it is
    replayed. The result of a call holds until the next call of any function. On a CPU, every call runs the function.

    Python's own torch.cuda.graph() collects garbage and empties the cache of the allocator before it records, which
    takes longer than recording does.

    Args:
        user: what the graphs are for, in the warning where they do not work.
    """

    def __init__(self, device: torch.device, user: str) -> None:
        self.device, self.user = device, user
        self.is_on = device.type == "cuda"
        if self.is_on:
            self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()
        self._called: set[Hashable] = set()
        self._recorded: dict[Hashable, tuple[Callable[[], None], Tensor]] = {}

    def run(self, key: Hashable, function: Callable[[], Tensor]) -> Tensor:
        """Compute function(); a key stands for one function and its shapes."""
        if key in self._recorded:
            replay, result = self._recorded[key]
            replay()
            return result
        if not self.is_on or key not in self._called:
            self._called.add(key)
            return function()
        try:
            self._recorded[key] = self._record(function)
        except RuntimeError as error:  # nothing has been computed
            self.is_on = False
            [reason, *_] = str(error).splitlines() or [type(error).__name__]
            warnings.warn(f"{self.user} goes on without CUDA graphs: {reason}", stacklevel=2)
            # A recording that failed can leave CUDA's generator as if it went on, until another one ends.
            with suppress(RuntimeError):
                self._record(lambda: torch.zeros((), device=self.device))
        return self.run(key, function)

    def _record(self, function: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record the kernels of function() without running them; return how to replay them, and their result."""
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            # Other threads, which prepare data, may allocate memory meanwhile.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                result = function()
            finally:
                graph.capture_end()
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        return graph.replay, result
