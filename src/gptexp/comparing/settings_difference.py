"""The settings that differ between configs, as they stand in the config.yaml of run folders."""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass
from functools import cache
from typing import Any

from gptexp.config.keys import base_classes, declarations
from gptexp.config.plugins import import_installed_plugins

ABSENT = (
    "(not there)"  # in the config of another version of gptexp, or of another choice of the group
)


@dataclass(frozen=True)
class SettingRow:
    """A setting with different values."""

    key: str
    values: tuple[Any, ...]  # of each config; ABSENT where it does not have the key
    affects_result: bool


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def differing_settings(configs: Sequence[dict[str, Any]]) -> list[SettingRow]:
    """Return the settings that differ between configs, which are nested as in config.yaml.

    A key that one config lacks and another has at its default does not count: versions of gptexp add settings.
    """
    flat = [flatten(config) for config in configs]
    rows = []
    for key in dict.fromkeys(key for config in flat for key in config):
        values = tuple(config.get(key, ABSENT) for config in flat)
        if all(value == values[0] for value in values[1:]):
            continue
        present = [value for value in values if value is not ABSENT]
        if len(present) < len(values) and all(_is_default(key, value) for value in present):
            continue
        rows.append(SettingRow(key, values, key_affects_result(key)))
    return rows


@cache
def key_affects_result(key: str) -> bool:
    """Return whether a setting can change what a run computes; True for a key that this version does not know."""
    import_installed_plugins()
    group = base_classes().get(key.partition(".")[0])
    if group is not None and not group.affects_result:
        return False
    declared = declarations(key)
    return not declared or any(item.metadata.get("affects_result", True) for item in declared)


def _is_default(key: str, value: Any) -> bool:
    return any(value == default for default in _defaults(key))


@cache
def _defaults(key: str) -> list[Any]:
    import_installed_plugins()
    return list(_read_defaults(declarations(key)))


def _read_defaults(declared: Iterable[Any]) -> Iterable[Any]:
    for item in declared:
        if item.default is not MISSING:
            yield item.default
        elif item.default_factory is not MISSING:
            yield item.default_factory()
