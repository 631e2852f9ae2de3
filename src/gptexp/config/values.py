"""Compare values with what settings declare: their types, allowed values and ranges."""

import math
from collections.abc import Callable, Mapping
from dataclasses import Field
from types import NoneType
from typing import Any, get_args, get_origin

from omegaconf import MISSING, BooleanNode, FloatNode, IntegerNode, StringNode, ValueNode
from omegaconf.errors import ValidationError

from gptexp.errors import nearest

NODES: dict[type, tuple[Callable[[Any], ValueNode], str]] = {
    int: (IntegerNode, "a whole number"),
    float: (FloatNode, "a number"),
    bool: (BooleanNode, "true or false"),
    str: (StringNode, "a text"),
}


def find_misfit(value: Any, item: Field, is_entry: bool = False) -> str:
    """Return why a setting cannot have a value, such as "must be a whole number", or "".

    Interpolations are left to OmegaConf, which knows their values.

    Args:
        is_entry: the value is that of an entry of the declared dictionary.
    """
    if value is None and item.default == MISSING:
        return "cannot be null"
    kind = get_args(item.type)[-1] if is_entry else item.type
    return _find_misfit(value, kind, item.metadata)


def show(value: Any) -> str:
    """Return a value as Hydra writes it."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "{" + ",".join(f"{show(name)}:{show(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(show, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_text(item: Field) -> bool:
    """Return whether a setting, or each item of it, is a text; one that is `true` or `false` needs no quotes."""
    if "true" in item.metadata.get("choices", ()):
        return False
    parts = get_args(_without_none(item.type)) or (_without_none(item.type),)
    return bool(item.metadata.get("texts")) or _without_none(parts[-1]) is str


def is_optional(item: Field) -> bool:
    """Return whether null is a value of a setting."""
    return NoneType in get_args(item.type)


def takes_items(item: Field) -> bool:
    """Return whether a list or a dictionary is allowed as the value of a setting."""
    kind = _without_none(item.type)
    is_unknown = kind is Any or isinstance(kind, str)  # with `from __future__ import annotations`
    return is_unknown or (get_origin(kind) or kind) in (list, dict)


def _find_misfit(value: Any, kind: Any, limits: Mapping[str, Any]) -> str:
    may_be_null, kind = NoneType in get_args(kind), _without_none(kind)
    if isinstance(value, str) and "${" in value:
        return ""
    if value is None:
        return "" if may_be_null or kind is Any else "cannot be null"
    origin = get_origin(kind) or kind
    if origin is list:
        if not isinstance(value, list):
            return f"a list is needed: [{'a,b' if isinstance(value, dict) else show(value)}]"
        return _first_misfit([("", item) for item in value], kind, limits)
    if origin is dict:
        if not isinstance(value, dict):
            return "a mapping is needed: {name: value}"
        for name in value:
            if not isinstance(name, str):
                return f"the name {show(name)} must be a text: put it in quotes"
        return _first_misfit([(f"{name}: ", item) for name, item in value.items()], kind, limits)
    if limits.get("texts"):
        return _find_misfit_of_texts(value if isinstance(value, list) else [value])
    return _find_misfit_of_one(value, kind, limits) if kind in NODES else ""


def _first_misfit(items: list[tuple[str, Any]], kind: Any, limits: Mapping[str, Any]) -> str:
    """Return the first misfit of the items of a list or the values of a dictionary."""
    for name, item in items:
        reason = _find_misfit(item, (get_args(kind) or (Any,))[-1], limits)
        if item is None and limits.get("texts"):
            reason = "cannot be null"
        if reason:
            return f"{name}{show(item)} {reason}"
    return ""


def _find_misfit_of_texts(items: list[Any]) -> str:
    if not items or any(isinstance(item, list | dict | NoneType) for item in items):
        return "must be a text, or a list of texts"
    others = [item for item in items if not isinstance(item, str)]
    return f"{show(others[0])} is no text: put it in quotes" if others else ""


def _find_misfit_of_one(value: Any, kind: type, limits: Mapping[str, Any]) -> str:
    node, name = NODES[kind]
    if isinstance(value, list | dict):
        return f"must be {name}, not a {'list' if isinstance(value, list) else 'mapping'}"
    if value == MISSING:  # OmegaConf's mark for a value that must be given
        return f"must be {name}"
    try:
        converted = node(value)._value()
    except ValidationError:
        is_whole = kind is int and isinstance(value, float) and value.is_integer()
        return f"must be {name}" + (
            f", without a point or an exponent: {value:.0f}" if is_whole else ""
        )
    choices = limits.get("choices")
    if isinstance(value, bool) and choices and "true" in choices:
        converted = show(value)
    if choices and converted not in choices:
        return f"not known.{nearest(str(converted), choices)} Allowed: {', '.join(sorted(choices))}"
    if isinstance(converted, float) and not math.isfinite(converted):
        return "must be a finite number"
    if (minimum := limits.get("minimum")) is not None and converted < minimum:
        return f"must be at least {_show_limit(minimum)}"
    if (maximum := limits.get("maximum")) is not None and converted > maximum:
        return f"must be at most {_show_limit(maximum)}"
    return ""


def _show_limit(limit: float) -> str:
    """Write a limit; a whole number in full, such as the largest seed."""
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def _without_none(kind: Any) -> Any:
    """Return the type without None, where it is a union with None."""
    if get_origin(kind) in (list, dict) or NoneType not in get_args(kind):
        return kind
    rest = [part for part in get_args(kind) if part is not NoneType]
    return rest[0] if len(rest) == 1 else Any
