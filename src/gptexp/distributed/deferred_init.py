"""Weights for a model that no single rank can hold: each rank fills its shard, and reads or draws nothing else at once.

The constructor runs on the meta device, and the operations that initialise its parameters are recorded. After the model
is sharded, each rank repeats them in the same order, some rows at a time, and keeps its own rows: the weights are those
of the same constructor on one device, to the bit. Parameters that files hold are read from there (stored_tensors.py).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gptexp.distributed.sharding import fill_parameters, write_rows
from gptexp.stored_tensors import StoredTensor

aten = torch.ops.aten
RANDOM = (aten.normal_.default, aten.uniform_.default)
FILLS = (*RANDOM, aten.fill_.Scalar, aten.zero_.default)  # operations that set all values
# Factories, and the operation that sets the values of an empty tensor to theirs.
FACTORIES: dict[Any, tuple[Any, tuple[Any, ...]]] = {
    aten.zeros.default: (aten.zero_.default, ()),
    aten.ones.default: (aten.fill_.Scalar, (1.0,)),
}
CHUNK_ELEMENTS = 1 << 25  # about so many are drawn at once
# The CPU draws normal numbers 16 at a time: parts of a tensor are those of the whole where each has a multiple of 16
# elements, and the last one at least 16.
DRAWN_TOGETHER = 16
CONSTRUCTION_SEED = (
    0x5EED_0F_C0DE  # during construction, so that a constructor that seeds by itself is known
)


@dataclass(frozen=True)
class Fill:
    """An operation that sets all values of a tensor on the meta device."""

    operation: Any
    arguments: tuple[Any, ...]
    tensor: Tensor

    def rows(self) -> Iterator[tuple[int, Tensor]]:
        """Repeat the operation; return some rows of its result at a time, with the number of the first."""
        shape = self.tensor.shape
        count = shape[0] if shape else 1
        width = max(1, self.tensor.numel() // max(1, count))
        step = max(1, CHUNK_ELEMENTS // width // DRAWN_TOGETHER) * DRAWN_TOGETHER
        starts = range(0, max(1, count - step + 1), step)  # the last part has the rest
        for start in starts:
            stop = count if start == starts[-1] else start + step
            size = (stop - start, *shape[1:]) if shape else ()
            yield start, self.operation(torch.empty(size, dtype=self.tensor.dtype), *self.arguments)


class DeferredWeights:
    """The weights of a model that is built on the meta device.

    Attributes:
        stored: parameters that files hold, by name.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.stored: Mapping[str, StoredTensor] = {}
        self._fills: list[Fill] = []
        self._is_understood = True

    @contextmanager
    def construction(self) -> Iterator[None]:
        """Build modules on the meta device inside the context, and record how their parameters are initialised."""
        with torch.random.fork_rng(devices=[]), _Recorder(self._record), torch.device("meta"):
            torch.default_generator.manual_seed(CONSTRUCTION_SEED)
            yield

    def can_fill(self, model: nn.Module) -> bool:
        """Return whether all values of a model are known. Those of buffers and of other tensors are not."""
        filled = {_storage(fill.tensor) for fill in self._fills}
        is_known = all(_storage(parameter) in filled for parameter in model.parameters())
        has_others = any(_has_other_tensors(module) for module in model.modules())
        return self._is_understood and is_known and not has_others

    @torch.no_grad()
    def materialize(
        self, model: nn.Module, device: torch.device, shard: Callable[[], None]
    ) -> None:
        """Shard a model on the meta device, allocate the shard of this rank on `device`, and fill it.

        This works once: it closes the files that hold parameters.
        """
        names = {_storage(parameter): name for name, parameter in model.named_parameters()}
        shard()
        model.to_empty(device=device)
        parameters = dict(model.named_parameters())
        fills = [(names.get(_storage(fill.tensor), ""), fill) for fill in self._fills]
        # The last operation on each parameter that no file holds.
        kept = {name: fill for name, fill in fills if name and name not in self.stored}
        needed = max(
            (i for i, (name, fill) in enumerate(fills) if kept.get(name) is fill), default=-1
        )
        torch.manual_seed(self.seed)
        for name, fill in fills[: needed + 1]:
            is_kept = kept.get(name) is fill
            if is_kept or fill.operation in RANDOM:  # whose random numbers others follow
                for start, rows in fill.rows():
                    if is_kept:
                        write_rows(parameters[name], start, rows)
        fill_parameters(model, self.stored)
        self.stored, self._fills = {}, []

    def _record(
        self, operation: Any, arguments: tuple[Any, ...], options: dict[str, Any], result: Any
    ) -> None:
        """Record an operation on the meta device."""
        is_random = torch.Tag.nondeterministic_seeded in operation.tags
        if is_random and torch.initial_seed() != CONSTRUCTION_SEED:
            self._is_understood = False
        if operation in FACTORIES:
            self._fills.append(Fill(*FACTORIES[operation], result))
        elif operation in FILLS and not options and _is_whole(arguments[0]):
            self._fills.append(Fill(operation, arguments[1:], arguments[0]))
        elif operation._schema.is_mutable or is_random:
            self._is_understood = (
                False  # it changes values, or takes random numbers, in another way
            )


class _Recorder(TorchDispatchMode):
    """Passes each operation on, with its result."""

    def __init__(self, record: Callable[[Any, tuple[Any, ...], dict[str, Any], Any], None]) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.record(func, args, kwargs or {}, result)
        return result


def _storage(tensor: Tensor) -> int:
    """Return a number of the memory that a tensor shares with its views and parameters, on the meta device too."""
    return tensor.untyped_storage()._cdata


def _has_other_tensors(module: nn.Module) -> bool:
    """Return whether a module has buffers, or tensors on the meta device that are neither parameters nor buffers."""
    registered = ("_parameters", "_buffers", "_modules")
    attributes = [value for name, value in vars(module).items() if name not in registered]
    has_buffers = any(True for _ in module.buffers(recurse=False))
    return has_buffers or any(
        isinstance(leaf, Tensor) and leaf.is_meta for leaf in tree_leaves(attributes)
    )


def _is_whole(tensor: Tensor) -> bool:
    """Return whether a tensor covers its memory, and is no view of a part of it."""
    return tensor.is_contiguous() and tensor.nbytes == tensor.untyped_storage().nbytes()
