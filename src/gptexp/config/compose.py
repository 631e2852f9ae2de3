"""Compose a checked Config from the overrides of a command line, without importing torch; load and save one.

Hydra composes. This module gives it the settings classes of all groups, those of plugins included, and checks what
Hydra does not: required values, choices, ranges, and the rules of the groups.
"""

import math
import os
import re
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from gptexp.config import registry
from gptexp.config.conf_source import install
from gptexp.config.group import GroupConfig
from gptexp.config.hydra_errors import explain_hydra_error, unknown_key
from gptexp.config.keys import dictionary_keys, group_names, iter_settings, result_settings
from gptexp.config.package_data import conf_folder
from gptexp.config.plugins import add_folders, import_installed_plugins, import_plugins
from gptexp.config.schema import Config, TrainerConfig
from gptexp.config.signature import TARGET
from gptexp.config.target_settings import settings_of_target
from gptexp.errors import UserError, unknown_value


class MissingValueError(UserError):
    """A key without a default was not given."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} must be given: add {key}=... to the command")
        self.key = key


def prepare_hydra(overrides: list[str]) -> None:
    """Import the plugins, also those that the overrides name, and let Hydra find all settings and YAML files.

    Raises:
        UserError: a plugin cannot be imported.
    """
    import_installed_plugins()
    named = [
        override.value() for override in _parse(overrides) if override.key_or_group == "plugins"
    ]
    import_plugins([str(name) for names in named if isinstance(names, list) for name in names])
    install()


def compose_config(overrides: list[str], sweep: Path | None = None) -> Config:
    """Compose and check a config, or one with a sweep's file on top, outside of Hydra's own main.

    Raises:
        UserError: an override names something that does not exist or has the wrong type.
    """
    prepare_hydra(overrides)
    overrides = preprocess_overrides(overrides)
    GlobalHydra.instance().clear()
    folder, name = (sweep.resolve().parent, sweep.stem) if sweep else (conf_folder(), "config")
    search = [f"hydra.searchpath=[file://{conf_folder()}]"] if sweep else []
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            return validate(compose(name, overrides=[*search, *overrides]))
    except (HydraException, OmegaConfBaseException) as error:
        raise explain_hydra_error(error, overrides) from error


def preprocess_overrides(overrides: list[str]) -> list[str]:
    """Let overrides add entries to dictionaries without Hydra's `++`, and expand ~ to the home folder."""
    expanded = [re.sub(r"=~(?=/)", lambda _: f"={Path.home()}", word) for word in overrides]
    keys = "|".join(re.escape(key) for key in dictionary_keys())
    return [f"++{word}" if re.match(rf"({keys})(\.|=\{{)", word) else word for word in expanded]


def quote(value: Any) -> str:
    """Quote a value for Hydra. Backslashes are doubled only before a quote or the end."""
    text = re.sub(
        r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), str(value)
    )
    return "'" + text.replace("${", "\\${") + "'"


def find_swept_keys(overrides: list[str]) -> set[str]:
    """Return the keys that have several values in these overrides."""
    return {override.key_or_group for override in _parse(overrides) if override.is_sweep_override()}


def keys_without_effect(config: Config) -> set[str]:
    """Return the keys of the settings that have no part in the run's id.

    `init` and `resume` are not among them, because they affect the id through `init_digest`; nor is `outputs`, which
    moves the folder.
    """
    keys = {key for key, _, _ in iter_settings(config)}
    return keys - result_settings(config).keys() - {"init", "resume", "outputs"}


def validate(cfg: DictConfig) -> Config:
    """Convert a composed config to a Config, fill in what follows from other settings, and check it.

    Raises:
        UserError: a value is missing, not among its choices, out of its range, or contradicts another.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise MissingValueError(missing[0])
    config = cast(Config, OmegaConf.to_object(cfg))
    keys = {key for key, _, _ in iter_settings(config)}
    surplus = sorted(set(_dotted_keys(OmegaConf.to_container(cfg))) - keys)
    if surplus:  # `++key=value` gets past Hydra's own check
        raise unknown_key(surplus[0])
    _check_values(config)
    config.resolve()
    config.check()
    return config


def check_config(config: Config) -> None:
    """Check a complete config whose settings were changed after it was composed.

    Raises:
        UserError: a value is not among its choices, out of its range, or contradicts another.
    """
    _check_values(config)
    config.check()


def load_config(path: Path) -> Config:
    """Load the config.yaml of a run folder, importing the plugins that it names.

    Raises:
        UserError: it is damaged, another version of the code wrote it, or a plugin cannot be imported.
    """
    import_installed_plugins()
    try:
        stored = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
        add_folders(stored["plugin_folders"])
        import_plugins(stored["plugins"])
        config = OmegaConf.structured(Config)
        for group in group_names():
            if group != TrainerConfig.config_group:
                config[group] = OmegaConf.structured(schema_of(group, stored[group]))
        return cast(Config, OmegaConf.to_object(OmegaConf.merge(config, stored)))
    except (OSError, ValueError, KeyError, TypeError, YAMLError, OmegaConfBaseException) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{path}: damaged, or written by another version of gptexp ({reason})"
        ) from error


def schema_of(group: str, settings: dict[str, Any]) -> type[GroupConfig]:
    """Return the settings class of stored settings of a group.

    Raises:
        KeyError: there is no such kind. UserError: its `_target_` cannot be found.
    """
    if target := settings.get(TARGET):
        return settings_of_target(group, settings["kind"], target)
    return registry.schemas(group)[settings["kind"]]


def save_config(config: Config, path: Path) -> None:
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))


def cache_folder(config: Config) -> Path:
    return Path(config.cache or os.environ.get("GPTEXP_CACHE") or "~/.cache/gptexp").expanduser()


def _parse(overrides: list[str]) -> list[Override]:
    """Parse overrides; none where one is malformed, which composing reports."""
    try:
        return OverridesParser.create().parse_overrides(overrides)
    except HydraException:
        return []


def _check_values(config: Config) -> None:
    for key, field, value in iter_settings(config):
        _check_value(key, value, **field.metadata)


def _check_value(
    key: str,
    value: Any,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    **_: Any,
) -> None:
    for item in value if isinstance(value, list) else [value]:
        if choices and item is not None and item not in choices:
            raise unknown_value(key, item, choices)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value}: must be a finite number")
    if minimum is not None and value is not None and value < minimum:
        raise UserError(f"{key}={value}: must be at least {minimum:g}")
    if maximum is not None and value is not None and value > maximum:
        raise UserError(f"{key}={value}: must be at most {maximum:g}")


def _dotted_keys(node: Any) -> list[str]:
    """Return the dotted keys of a composed config."""
    keys = []
    for name, value in node.items():
        inner = value if name in group_names() else None
        keys += [f"{name}.{key}" for key in inner] if isinstance(inner, dict) else [name]
    return keys
