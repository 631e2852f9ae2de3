"""Tensors in safetensors files, of which any region can be read: a rank reads its shard and nothing else.

A large file is mapped into memory. It is opened again and again, so that the parts that were read do not stay mapped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

Region = tuple[slice, ...]  # of a tensor: start and stop in each dimension
MAX_MAPPED_BYTES = 1 << 28  # of one file, before it is opened again


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is not in memory yet.

    Attributes:
        read: returns a region of it, which may share the memory of its file: copy what has to last.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[Region], Tensor]

    def read_all(self) -> Tensor:
        return self.read(full_region(self.shape))

    def transpose(self) -> "StoredTensor":
        """Return a matrix with its dimensions swapped."""
        return StoredTensor(self.shape[::-1], self.dtype, lambda region: self.read(region[::-1]).T)

    def float(self) -> "StoredTensor":
        """Return its values in fp32."""
        return StoredTensor(self.shape, torch.float32, lambda region: self.read(region).float())

    def rows(self, start: int, count: int) -> "StoredTensor":
        """Return rows of it, that is, indices of its first dimension."""

        def read(region: Region) -> Tensor:
            first = slice(region[0].start + start, region[0].stop + start)
            return self.read((first, *region[1:]))

        return StoredTensor((count, *self.shape[1:]), self.dtype, read)


def full_region(shape: Sequence[int]) -> Region:
    """Return the region that covers a tensor of this shape."""
    return tuple(slice(0, size) for size in shape)


def intersect(one: Region, other: Region) -> Region | None:
    """Return the region that two regions share; None if they share nothing."""
    common = tuple(
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return common if all(part.start < part.stop for part in common) else None


def relative_to(region: Region, origin: Region) -> Region:
    """Return `region` counted from the start of `origin`."""
    return tuple(
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, origin, strict=True)
    )


def compute_stored(
    shape: Sequence[int], dtype: torch.dtype, compute: Callable[[], Tensor]
) -> StoredTensor:
    """Return a tensor that has to be computed as a whole, whichever region is read."""
    return StoredTensor(tuple(shape), dtype, lambda region: compute()[region])


def stack_stored(tensors: Sequence[StoredTensor]) -> StoredTensor:
    """Stack tensors of one shape along a new first dimension."""
    first = tensors[0]

    def read(region: Region) -> Tensor:
        chosen = tensors[region[0]]
        if not chosen:
            return torch.empty([part.stop - part.start for part in region], dtype=first.dtype)
        return torch.stack([tensor.read(region[1:]) for tensor in chosen])

    return StoredTensor((len(tensors), *first.shape), first.dtype, read)


def join_stored(
    shape: Sequence[int], pieces: Sequence[tuple[Sequence[int], StoredTensor]]
) -> StoredTensor:
    """Put the pieces of a tensor together, each with the offset of its first element in every dimension."""
    dtype = pieces[0][1].dtype

    def read(region: Region) -> Tensor:
        joined = torch.empty([part.stop - part.start for part in region], dtype=dtype)
        for offset, piece in pieces:
            covered = tuple(
                slice(start, start + size) for start, size in zip(offset, piece.shape, strict=True)
            )
            if (common := intersect(region, covered)) is not None:
                joined[relative_to(common, region)] = piece.read(relative_to(common, covered))
        return joined

    return StoredTensor(tuple(shape), dtype, read)


def open_safetensors(file: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return the tensors of a file, and its metadata.

    Raises:
        SafetensorError: the file is not of this format.
    """
    reader = _Reader(file)
    opened = reader.open()
    tensors = {}
    for name in opened.keys():  # noqa: SIM118  not a dict
        shape = tuple(opened.get_slice(name).get_shape())
        dtype = opened.get_slice(name)[:0].dtype if shape else opened.get_tensor(name).dtype
        tensors[name] = StoredTensor(shape, dtype, reader.read_of(name))
    return tensors, opened.metadata() or {}


class _Reader:
    """Reads regions of the tensors of one file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._opened: Any = None
        self._mapped_bytes = 0

    def open(self) -> Any:
        if self._opened is None or self._mapped_bytes > MAX_MAPPED_BYTES:
            self._opened, self._mapped_bytes = safe_open(self.file, "pt"), 0
        return self._opened

    def read_of(self, name: str) -> Callable[[Region], Tensor]:
        def read(region: Region) -> Tensor:
            opened = self.open()
            tensor = opened.get_slice(name)[region] if region else opened.get_tensor(name)
            self._mapped_bytes += tensor.nbytes
            return tensor

        return read
