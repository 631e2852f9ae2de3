"""The names of all settings: which dataclasses a group offers, and which keys they have."""

from dataclasses import Field, fields, is_dataclass
from typing import Any

from gptexp.config.schema import Config

_OF_GROUPS: dict[str, Any] = {
    item.name: item.type for item in fields(Config) if is_dataclass(item.type)
}


def _kinds(schema: type) -> list[Any]:
    """Those of a dataclass's subclasses that have none themselves."""
    kinds: list[Any] = schema.__subclasses__()
    return [leaf for kind in kinds for leaf in _kinds(kind) or [kind]]


# Group -> name of its schema in Hydra's store -> dataclass. YAML files start with `defaults: [base_...]`.
SCHEMAS: dict[str, dict[str, Any]] = {
    group: {f"base_{kind.kind}": kind for kind in _kinds(schema)} or {f"base_{group}": schema}
    for group, schema in _OF_GROUPS.items()
}


def walk(config: Any, prefix: str = "") -> list[tuple[str, Field, Any]]:
    """(dotted key, dataclass field, value) of every setting of a config object."""
    found = []
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            found += walk(value, f"{prefix}{item.name}.")
        else:
            found.append((prefix + item.name, item, value))
    return found


def known_fields(schema: type) -> list[str]:
    return [item.name for item in fields(schema)]


def known_keys() -> list[str]:
    """Every dotted key that some choice of groups offers."""
    inner = [
        f"{group}.{name}"
        for group, schemas in SCHEMAS.items()
        for schema in schemas.values()
        for name in known_fields(schema)
    ]
    return list(dict.fromkeys(known_fields(Config) + inner))
