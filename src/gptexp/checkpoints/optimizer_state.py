"""The whole state of optimizers as named tensors and JSON, for any optimizer with torch's interface.

Tensors may be nested in lists, tuples and dictionaries; numbers, texts and None are stored as they are. Other values
are refused when the state is saved, since a run that loses them would not resume exactly.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gptexp.distributed.sharding import read_like
from gptexp.errors import RunError
from gptexp.stored_tensors import StoredTensor

# Entries of a param_group that are not stored: the parameters, and the learning rate, which each step sets.
NOT_STORED = ("params", "lr")


@dataclass
class Encoded:
    """A nested value: `values` is JSON that names tensors, encoded ones in memory, or stored ones to decode."""

    values: Any = None
    tensors: dict[str, Tensor] = field(default_factory=dict)
    stored: dict[str, StoredTensor] = field(default_factory=dict)

    def encode(self, value: Any, name: str) -> Any:
        """Return `value` as JSON, and add its tensors under names that begin with `name`.

        Raises:
            TypeError: it holds a value that is neither a tensor nor JSON.
        """
        match value:
            case None | bool() | int() | float() | str():
                return value
            case Tensor():
                assert name not in self.tensors, name
                self.tensors[name] = value
                return {"tensor": name}
            case list():
                return [self.encode(item, f"{name}/{i}") for i, item in enumerate(value)]
            case tuple():
                return {"tuple": self.encode(list(value), name)}
            case dict():
                pairs = [
                    [self.encode(k, name), self.encode(v, f"{name}/{k}")] for k, v in value.items()
                ]
                return {"dict": pairs}
        raise TypeError(
            f"{name} is of type {type(value).__name__}; a checkpoint holds tensors, numbers, texts, "
            f"lists, tuples and dictionaries"
        )

    def decode(self, value: Any = ..., like: Tensor | None = None) -> Any:
        """Return the value that JSON stands for (default: all of it); tensors are sharded as `like` is."""
        match self.values if value is ... else value:
            case {"tensor": name}:
                stored = self.stored[name]
                return stored.read_all().clone() if like is None else read_like(stored, like)
            case {"tuple": items}:
                return tuple(self.decode(items, like))
            case {"dict": pairs}:
                return {self.decode(k): self.decode(v, like) for k, v in pairs}
            case list() as items:
                return [self.decode(item, like) for item in items]
            case plain:
                return plain


class OptimizerState:
    """The state of a run's optimizers under the names of the model's parameters.

    It must be created before the first step. A value of a param_group that has changed since is state, and is stored;
    the others are settings, which a resumed run takes from its config.
    """

    def __init__(self, model: nn.Module, optimizers: list[Optimizer]) -> None:
        self.optimizers = optimizers
        self.names: dict[Tensor, str] = {
            parameter: name for name, parameter in model.named_parameters()
        }
        self.settings = [deepcopy(_group_values(optimizer)) for optimizer in optimizers]

    def encode(self) -> Encoded:
        """Return the state of all optimizers.

        Raises:
            RunError: an optimizer keeps a value that a checkpoint cannot hold.
        """
        encoded = Encoded([])
        for number, optimizer in enumerate(self.optimizers):
            try:
                encoded.values.append(self._encode_one(encoded, number))
            except TypeError as error:
                raise RunError(
                    f"the state of the optimizer {type(optimizer).__name__} cannot be saved: {error}"
                ) from error
        return encoded

    def _encode_one(self, encoded: Encoded, number: int) -> dict[str, Any]:
        optimizer = self.optimizers[number]
        state_dict = optimizer.state_dict()
        names = {index: self.names[p] for p, index in _indices(optimizer, state_dict).items()}
        parameter_state: dict[str, Any] = {}
        shared_state: dict[Any, Any] = {}
        for key, value in state_dict.pop("state").items():
            if key in names:
                parameter_state[names[key]] = encoded.encode(value, f"{number}/{names[key]}")
            else:
                shared_state[key] = value
        changed = [
            {
                key: value
                for key, value in group.items()
                if not _equal(value, settings.get(key, ...))
            }
            for group, settings in zip(_group_values(optimizer), self.settings[number], strict=True)
        ]
        del state_dict["param_groups"]
        return {
            "optimizer": type(optimizer).__name__,
            "parameters": parameter_state,
            "shared": encoded.encode(shared_state, f"{number}/shared"),
            "param_groups": encoded.encode(changed, f"{number}/param_groups"),
            "other": encoded.encode(state_dict, f"{number}/other"),
        }

    def load(self, encoded: Encoded) -> None:
        """Restore what `encode` returned, to the bit.

        Raises:
            ValueError: it is the state of other optimizers.
        """
        ours = [type(optimizer).__name__ for optimizer in self.optimizers]
        theirs = [saved["optimizer"] for saved in encoded.values]
        if ours != theirs:
            raise ValueError(
                f"holds the state of the optimizers {', '.join(theirs)}, not of {', '.join(ours)}"
            )
        for optimizer, saved in zip(self.optimizers, encoded.values, strict=True):
            self._load_one(optimizer, saved, encoded)

    def _load_one(self, optimizer: Optimizer, saved: dict[str, Any], encoded: Encoded) -> None:
        state_dict = optimizer.state_dict()
        indices = _indices(optimizer, state_dict)
        parameters = {self.names[parameter]: parameter for parameter in indices}
        if unknown := saved["parameters"].keys() - parameters.keys():
            raise ValueError(
                f"holds the optimizer state of {min(unknown)}, which {type(optimizer).__name__} does not update"
            )
        state = {
            parameters[name]: encoded.decode(value, parameters[name])
            for name, value in saved["parameters"].items()
        }
        groups = state_dict["param_groups"]
        changed = encoded.decode(saved["param_groups"], next(iter(indices)))
        if not any(
            changed
        ):  # parameters may be grouped in another way, by the meshes of their shards
            changed = [{} for _ in groups]
        optimizer.load_state_dict(
            {
                **encoded.decode(saved["other"]),
                "state": {indices[parameter]: value for parameter, value in state.items()}
                | encoded.decode(saved["shared"]),
                "param_groups": [
                    group | values for group, values in zip(groups, changed, strict=True)
                ],
            }
        )
        for parameter, values in state.items():
            _restore_types(optimizer.state[parameter], values)


def _indices(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[Tensor, int]:
    """Return the number by which an optimizer's state_dict names each parameter."""
    return {
        parameter: index
        for group, saved in zip(optimizer.param_groups, state_dict["param_groups"], strict=True)
        for parameter, index in zip(group["params"], saved["params"], strict=True)
    }


def _group_values(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in group.items() if key not in NOT_STORED}
        for group in optimizer.param_groups
    ]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _restore_types(loaded: Any, values: Any) -> None:
    """Undo torch's cast of all state to the type of its parameter: counters and masks keep theirs."""
    for key, value in values.items():
        if isinstance(value, Tensor) and loaded[key].dtype != value.dtype:
            loaded[key] = value
