"""The names of all settings: of the groups, of their choices, and of the keys that these have."""

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any, get_origin

from gptexp.config import registry
from gptexp.config.schema import Config, GroupConfig, TrainerConfig
from gptexp.config.values import find_misfit


def base_classes() -> dict[str, type[GroupConfig]]:
    """Return the base class of the settings of each group."""
    return {
        item.name: item.type
        for item in fields(Config)
        if isinstance(item.type, type) and issubclass(item.type, GroupConfig)
    }


def group_names() -> tuple[str, ...]:
    """Return the fields of Config that are groups."""
    return tuple(base_classes())


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


def dictionary_keys() -> list[str]:
    """Return the keys of dictionaries, to which users add entries with names of their own."""
    settings = {key: item for group in group_names() for key, item in _settings_of_group(group)}
    settings |= {item.name: item for item in fields(Config)}
    return [key for key, item in settings.items() if get_origin(item.type) is dict]


def declarations(key: str) -> list[Field]:
    """Return the settings that have this dotted key in any choice of its group; of an entry, its dictionary."""
    key = dictionary_of(key) or key
    group, _, name = key.partition(".")
    classes: list[type] = [*schemas(group).values()]
    if not name and group not in group_names():
        classes, name = [Config], key
    return [item for schema in classes for item in fields(schema) if item.name == name]


def find_misfit_of_key(key: str, value: Any, choice: str = "") -> str:
    """Return why no choice of the group takes a value for this dotted key; "": one does, or the key is unknown.

    Args:
        choice: the chosen one, whose reason comes before those of others.
    """
    is_entry = bool(dictionary_of(key))
    declared = declarations(key)
    reasons = [find_misfit(value, item, is_entry) for item in declared]
    if not reasons or not all(reasons):
        return ""
    group, _, name = key.partition(".")
    schema = schemas(group).get(f"base_{choice}") if choice else None
    own = [item for item in fields(schema) if item.name == name] if schema else []
    return find_misfit(value, own[0], is_entry) if own else reasons[0]


def dictionary_of(key: str) -> str:
    """Return the key of the dictionary that a key is an entry of, or ""."""
    return next((name for name in dictionary_keys() if key.startswith(f"{name}.")), "")


def known_fields(schema: type) -> list[str]:
    return [item.name for item in fields(schema)]


def known_keys() -> list[str]:
    """Return every dotted key that some choice of groups has."""
    inner = [key for group in group_names() for key, _ in _settings_of_group(group)]
    return list(dict.fromkeys(known_fields(Config) + inner))


def _settings_of_group(group: str) -> list[tuple[str, Field]]:
    """Return (dotted key, dataclass field) of the settings of all choices of a group."""
    return [
        (f"{group}.{item.name}", item)
        for schema in schemas(group).values()
        for item in fields(schema)
    ]
