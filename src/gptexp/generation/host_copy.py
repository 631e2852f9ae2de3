"""Copy numbers to and from a GPU while it goes on computing."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(numbers: Sequence[Any], device: torch.device) -> Tensor:
    """Return a tensor of whole numbers or booleans on a device, without waiting for the work before it."""
    if device.type != "cuda":
        return torch.tensor(numbers, device=device)
    return torch.tensor(numbers, pin_memory=True).to(device, non_blocking=True)


class HostCopy:
    """A copy of a tensor in the memory of the host. Only reading it waits, and only for the work before the copy."""

    def __init__(self, tensor: Tensor) -> None:
        self._host, self._is_complete = tensor, None
        if tensor.device.type == "cuda":
            self._host = torch.empty_like(tensor, device="cpu", pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._is_complete = torch.cuda.Event()
            self._is_complete.record(torch.cuda.current_stream(tensor.device))

    def numpy(self) -> NDArray[Any]:
        """Wait for the copy, and return its numbers."""
        if self._is_complete is not None:
            self._is_complete.synchronize()
        return self._host.numpy()

    def tolist(self) -> Any:
        return self.numpy().tolist()
