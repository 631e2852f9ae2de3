"""Compose a checked Config from the overrides of a command line, without importing torch; load and save one.

Hydra composes. This module gives it the settings classes of all groups, those of plugins included, and checks what
Hydra does not: required values, choices, ranges, and the rules of the groups.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from gptexp.config import registry
from gptexp.config.conf_source import install
from gptexp.config.grammar import find_override, parse_overrides
from gptexp.config.group import GroupConfig
from gptexp.config.hydra_errors import explain_hydra_error, unknown_key
from gptexp.config.job_gpus import gpus_per_job
from gptexp.config.keys import group_names, iter_settings, result_settings
from gptexp.config.overrides import read_overrides
from gptexp.config.package_data import conf_folder
from gptexp.config.plugins import add_folders, import_installed_plugins, import_plugins
from gptexp.config.schema import Config, TrainerConfig
from gptexp.config.signature import TARGET
from gptexp.config.target_settings import settings_of_target
from gptexp.config.values import find_misfit, show
from gptexp.errors import UserError
from gptexp.files import write_text
from gptexp.wording import first_line

# Hydra raises ValueError for a defaults list that names no texts, and OmegaConf for some interpolations.
COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError)


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
    words = [word for word in overrides if re.match(r"\+{0,2}plugins=", word)]
    named = [override.value() for override in parse_overrides(words)]
    import_plugins([str(name) for names in named if isinstance(names, list) for name in names])
    install()
    OmegaConf.register_new_resolver("gpus_per_job", gpus_per_job, replace=True)


def compose_config(overrides: list[str], sweep: Path | None = None) -> Config:
    """Compose and check a config, or one with a sweep's file on top, outside of Hydra's own main.

    Raises:
        UserError: an override names something that does not exist or has the wrong type.
    """
    prepare_hydra(overrides)
    overrides = read_overrides(overrides)
    GlobalHydra.instance().clear()
    folder, name = (sweep.resolve().parent, sweep.stem) if sweep else (conf_folder(), "config")
    search = [f"hydra.searchpath=[file://{conf_folder()}]"] if sweep else []
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            return validate(compose(name, overrides=[*search, *overrides]), overrides)
    except COMPOSE_ERRORS as error:
        raise explain_hydra_error(error, overrides) from None


def keys_without_effect(config: Config) -> set[str]:
    """Return the keys of the settings that have no part in the run's id.

    `init` and `resume` are not among them, because they affect the id through `init_digest`; nor is `outputs`, which
    moves the folder.
    """
    keys = {key for key, _, _ in iter_settings(config)}
    return keys - result_settings(config).keys() - {"init", "resume", "outputs"}


def validate(cfg: DictConfig, overrides: Sequence[str] = ()) -> Config:
    """Convert a composed config to a Config, fill in what follows from other settings, and check it.

    Args:
        overrides: the words that composed it; a message names the one that is wrong.

    Raises:
        UserError: a value is missing, not among its choices, out of its range, or contradicts another.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        if missing:
            raise MissingValueError(missing[0])
        config = cast(Config, OmegaConf.to_object(cfg))
        if not isinstance(config, Config):
            raise UserError(
                "the file of -cn begins with no settings: its first line must be defaults: [config, _self_]"
            )
        composed = _dotted_keys(OmegaConf.to_container(cfg))
    except OmegaConfBaseException as error:
        raise explain_hydra_error(error, list(overrides)) from None
    keys = {key for key, _, _ in iter_settings(config)}
    surplus = sorted(set(composed) - keys)
    if surplus:  # `++key=value` gets past Hydra's own check
        word = find_override(list(overrides), surplus[0])
        raise unknown_key(surplus[0], f"{word}: " if word else "")
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
        raise UserError(
            f"{path}: damaged, or written by another version of gptexp ({first_line(error)})"
        ) from None


def schema_of(group: str, settings: dict[str, Any]) -> type[GroupConfig]:
    """Return the settings class of stored settings of a group.

    Raises:
        KeyError: there is no such kind. UserError: its `_target_` cannot be found.
    """
    if target := settings.get(TARGET):
        return settings_of_target(group, settings["kind"], target)
    return registry.schemas(group)[settings["kind"]]


def save_config(config: Config, path: Path) -> None:
    write_text(path, OmegaConf.to_yaml(OmegaConf.structured(config)))


def _check_values(config: Config) -> None:
    """Refuse a value that is none for its setting. OmegaConf checks types, but not inside of lists and dictionaries."""
    for key, item, value in iter_settings(config):
        if reason := find_misfit(value, item):
            raise UserError(f"{key}={show(value)}: {reason}")


def _dotted_keys(node: Any) -> list[str]:
    """Return the dotted keys of a composed config."""
    keys = []
    for name, value in node.items():
        inner = value if name in group_names() else None
        keys += [f"{name}.{key}" for key in inner] if isinstance(inner, dict) else [name]
    return keys
