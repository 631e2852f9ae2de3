"""Share out work on matrices of one shape over ranks: each rank computes its share, and all ranks get the results.

Copies, as DDP has them, take one all_gather. Pieces, as FSDP2 has them, take two all_to_all a sharded dimension of the
mesh. All parts of an exchange have one size: shares and rows are padded, and the padding is cut off again.

Legend: N matrices, R ranks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

# Its first name is deprecated since torch 2.13.
all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class MatrixExchange:
    """The way of N matrices to the ranks that compute on them, and of the results back.

    The base class is for a rank that has the matrices alone: nothing is exchanged.

    Attributes:
        is_remote: `receive` and `receive_results` wait for other ranks.
    """

    is_remote = False

    def limit(self, fitting: int) -> int:
        """Return how many matrices to exchange at once if `fitting` of them fit into memory."""
        return fitting

    def select(self, matrices: list[Tensor]) -> list[Tensor]:
        """Return those of N matrices, or of their pieces, that this rank has to `send`."""
        return matrices

    def send(self, pieces: Tensor) -> None:
        """Start to send pieces [N, ...] to the ranks that compute on the matrices."""
        self._pieces = pieces

    def receive(self) -> Tensor:
        """Return the matrices of this rank's share."""
        pieces = self._pieces
        del self._pieces  # memory
        return pieces

    def send_results(self, results: Tensor) -> None:
        """Start to send the results of this rank's share."""
        self._results = results

    def receive_results(self) -> Tensor:
        """Return the results of N matrices, or of this rank's pieces of them [N, ...]."""
        results = self._results
        del self._results
        return results


class ExchangeOfCopies(MatrixExchange):
    """Every rank of the default process group has all matrices, and gets all results."""

    is_remote = True

    def __init__(self) -> None:
        self.ranks = dist.get_world_size()

    def limit(self, fitting: int) -> int:
        return max(1, fitting // self.ranks) * self.ranks

    def select(self, matrices: list[Tensor]) -> list[Tensor]:
        self.count, self.share = len(matrices), ceil(len(matrices) / self.ranks)
        start = dist.get_rank() * self.share
        # A rank without a share computes on the first matrix: its result is padding.
        return matrices[start : start + self.share] or matrices[:1]

    def send_results(self, results: Tensor) -> None:
        self._sent = pad(results, (self.share, *results.shape[1:]))
        self._results = results.new_empty(self.ranks * self.share, *results.shape[1:])
        self._work: Any = all_gather(self._results, self._sent, async_op=True)

    def receive_results(self) -> Tensor:
        self._work.wait()
        return self._results[: self.count]


class ExchangeOfPieces(MatrixExchange):
    """Every rank has a piece of each matrix, and gets the same piece of each result."""

    is_remote = True

    def __init__(self, axes: list["ShardedAxis"]) -> None:
        self.axes = axes

    def limit(self, fitting: int) -> int:
        return fitting * prod(axis.ranks for axis in self.axes)

    def send(self, pieces: Tensor) -> None:
        self.counts = [len(pieces)]  # of matrices, before each axis is gathered
        self._receive = self.axes[0].gather(pieces)

    def receive(self) -> Tensor:
        matrices = self._receive()
        for axis in self.axes[1:]:
            self.counts.append(len(matrices))
            matrices = axis.gather(matrices)()
        return matrices

    def send_results(self, results: Tensor) -> None:
        for axis, count in zip(self.axes[:0:-1], self.counts[:0:-1], strict=True):
            results = axis.scatter(results, count)()
        self._receive = self.axes[0].scatter(results, self.counts[0])

    def receive_results(self) -> Tensor:
        return self._receive()


@dataclass(frozen=True)
class ShardedAxis:
    """Rows or columns of matrices that the ranks of a process group share, as torch.chunk cuts them.

    Attributes:
        axis: 1 for rows, 2 for columns; size: rows or columns of all ranks.
    """

    group: dist.ProcessGroup
    ranks: int
    rank: int
    axis: int
    size: int

    def count_own(self, count: int) -> int:
        """Return how many of N matrices are this rank's share."""
        share = ceil(count / self.ranks)
        return max(0, min(share, count - self.rank * share))

    def gather(self, pieces: Tensor) -> Callable[[], Tensor]:
        """Send pieces [N, ...]; return a function that waits for this rank's share, complete along the axis."""
        count, length = len(pieces), ceil(self.size / self.ranks)
        share, shape = ceil(count / self.ranks), list(pieces.shape)
        shape[0], shape[self.axis] = share * self.ranks, length
        receive = self._exchange(pad(pieces, shape))

        def finish() -> Tensor:
            parts = receive().unflatten(0, (self.ranks, share))  # [R, N / R, ...]
            joined = parts.movedim(0, self.axis).flatten(self.axis, self.axis + 1)
            return joined.narrow(self.axis, 0, self.size)[: self.count_own(count)]

        return finish

    def scatter(self, results: Tensor, count: int) -> Callable[[], Tensor]:
        """Send the results of this rank's share; return a function that waits for pieces of all N."""
        share, length = ceil(count / self.ranks), ceil(self.size / self.ranks)
        shape = list(results.shape)
        shape[0], shape[self.axis] = share, length * self.ranks
        parts = pad(results, shape).unflatten(self.axis, (self.ranks, length))
        receive = self._exchange(parts.movedim(self.axis, 0).flatten(0, 1).contiguous())
        own_length = max(0, min(length, self.size - self.rank * length))
        return lambda: receive()[:count].narrow(self.axis, 0, own_length)

    def _exchange(self, parts: Tensor) -> Callable[[], Tensor]:
        """Send the R parts of equal size to the R ranks; return a function that waits for theirs."""
        received = torch.empty_like(parts)
        if not parts.numel():
            return lambda: received
        work: Any = dist.all_to_all_single(received, parts, group=self.group, async_op=True)

        def finish() -> Tensor:
            work.wait()
            return received

        return finish


def exchange_of(like: Tensor) -> MatrixExchange:
    """Return the way of one stack of matrices, which lie on the ranks as the parameter [..., rows, columns] does."""
    if isinstance(like, DTensor):
        axes = sharded_axes(like)
        return ExchangeOfPieces(axes) if axes else MatrixExchange()
    is_copied = dist.is_initialized() and dist.get_world_size() > 1
    return ExchangeOfCopies() if is_copied else MatrixExchange()


def sharded_axes(tensor: DTensor) -> list[ShardedAxis]:
    """Return the dimensions of the mesh that shard rows or columns, in the order in which to gather them.

    FSDP has the first dimension of a mesh, and shards pieces that tensor parallelism has made.
    """
    mesh, sizes = tensor.device_mesh, list(tensor.shape)
    axes: list[ShardedAxis] = []
    coordinate = mesh.get_coordinate()
    assert coordinate is not None
    for dimension in reversed(range(mesh.ndim)):
        ranks, sharded = mesh.size(dimension), getattr(tensor.placements[dimension], "dim", None)
        if sharded is None or ranks == 1:
            continue
        size, rank = sizes[sharded], coordinate[dimension]
        length = ceil(size / ranks)
        sizes[sharded] = max(0, min(length, size - rank * length))
        axis = sharded - tensor.ndim + 3
        if axis > 0:  # else it shards the stack, and matrices are complete
            axes.insert(0, ShardedAxis(mesh.get_group(dimension), ranks, rank, axis, size))
    return axes


def pad(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a tensor of `shape` that begins with `tensor`; the other values are not defined."""
    if tensor.shape == torch.Size(shape):
        return tensor.contiguous()
    padded = tensor.new_empty(shape)
    padded[tuple(slice(size) for size in tensor.shape)] = tensor
    return padded
