"""The names of all settings: of the groups, of their choices, and of the keys that these have."""

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any

from gptexp.config import registry
from gptexp.config.schema import Config, GroupConfig, TrainerConfig


def group_names() -> tuple[str, ...]:
    """Return the fields of Config that are groups."""
    return tuple(
        item.name
        for item in fields(Config)
        if isinstance(item.type, type) and issubclass(item.type, GroupConfig)
    )


def schemas(group: str) -> dict[str, type[GroupConfig]]:
    """Return the settings classes of a group by their names in Hydra's store, with which YAML files start."""
    if group == TrainerConfig.config_group:
        return {"base_trainer": TrainerConfig}
    return {f"base_{kind}": schema for kind, schema in registry.schemas(group).items()}


def iter_settings(config: Any, prefix: str = "") -> Iterator[tuple[str, Field, Any]]:
    """Yield (dotted key, dataclass field, value) of every setting of a config object."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from iter_settings(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item, value


def result_settings(config: Config) -> dict[str, Any]:
    """Return the settings that affect what a run computes, by key."""
    neutral = tuple(
        f"{group.config_group}." for group in config.groups() if not group.affects_result
    )
    return {
        key: value
        for key, field, value in iter_settings(config)
        if field.metadata.get("affects_result", True) and not key.startswith(neutral)
    }


def known_fields(schema: type) -> list[str]:
    return [item.name for item in fields(schema)]


def known_keys() -> list[str]:
    """Return every dotted key that some choice of groups has."""
    inner = [
        f"{group}.{name}"
        for group in group_names()
        for schema in schemas(group).values()
        for name in known_fields(schema)
    ]
    return list(dict.fromkeys(known_fields(Config) + inner))
