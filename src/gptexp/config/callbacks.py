"""Callbacks: check those of a config against the parameters of their classes, and hash objects for the run's id."""

import json
from collections.abc import Sequence
from dataclasses import fields, make_dataclass
from types import CodeType
from typing import Any

from omegaconf import OmegaConf

from gptexp.config.plugins import make_importable
from gptexp.config.signature import REQUIRED, TARGET, declare, read_parameters
from gptexp.config.source import outside_fingerprint
from gptexp.config.values import find_misfit, is_text, show
from gptexp.errors import UserError, nearest
from gptexp.files import short_hash


def check_arguments(key: str, node: Any) -> dict[str, Any]:
    """Return {"_target_": ..., argument: value, ...} with values of the types that the class declares.

    Raises:
        UserError: there is no such class, or it has no such parameter of this type.
    """
    if not isinstance(node, dict) or not isinstance(target := node.get(TARGET), str):
        raise UserError(
            f"{key}: name a class with {key}._target_=my_package.MyClass, and its arguments with {key}.NAME=VALUE"
        )
    make_importable(target)
    known = {parameter.name: parameter for parameter in read_parameters(target)}
    for name in node.keys() - {TARGET} - known.keys():
        raise UserError(
            f"{key}.{name}: {target} has no such parameter.{nearest(name, known)} "
            f"Allowed: {', '.join(known)}"
        )
    missing = [
        name for name, item in known.items() if item.default is REQUIRED and name not in node
    ]
    if missing:
        raise UserError(f"{key}.{missing[0]} must be given: {target} needs it")
    arguments = [known[name] for name in node if name != TARGET]
    schema = make_dataclass("Arguments", [(p.name, p.type, declare(p, target)) for p in arguments])
    typed = OmegaConf.structured(schema)
    for item in fields(schema):
        name, value = item.name, node[item.name]
        reason = find_misfit(value, item)
        if isinstance(value, bool | float) and is_text(item):
            reason = "must be a text: put it in quotes"
        if reason:
            raise UserError(f"{key}.{name}={show(value)}: {reason}")
        typed[name] = value
    return {TARGET: target, **typed}


def digest_objects(callbacks: Sequence[object]) -> str:
    """Return a hash of callback objects: their attributes, and their classes with all code of these."""
    parts = []
    for callback in callbacks:
        classes = type(callback).__mro__
        code = [_describe_class(cls) for cls in classes if cls.__module__ == "__main__"]
        outside = outside_fingerprint(cls.__module__ for cls in classes)
        parts.append([str(type(callback)), code, outside, _describe(vars(callback))])
    return short_hash(json.dumps(parts))


def _describe_class(cls: type) -> dict[str, Any]:
    """Describe a class of a script or a notebook, whose other lines do not count."""
    members = vars(cls).items()
    return {
        name: _describe(value)
        for name, value in members
        if not name.startswith("__") or hasattr(value, "__code__")
    }


def _describe(value: Any) -> Any:
    """Return a description of a value as JSON, the same in every process."""
    if isinstance(value, dict):
        return {str(key): _describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, str | bytes | int | float | complex | None):
        return repr(value)
    if isinstance(value, CodeType):
        return [value.co_code.hex(), value.co_names, _describe(value.co_consts)]
    function = getattr(value, "fget", None) or getattr(value, "__func__", value)
    return _describe(getattr(function, "__code__", type(value).__qualname__))
