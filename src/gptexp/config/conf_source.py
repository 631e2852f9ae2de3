"""Where Hydra finds YAML files and settings classes: ours, those of plugins, and those that `_target_` makes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from gptexp.config.keys import group_names, schemas
from gptexp.config.package_data import choices, conf_folder
from gptexp.config.plugins import import_plugins, imported_plugins, plugin_conf_folders
from gptexp.config.registry import register
from gptexp.config.schema import Config
from gptexp.config.signature import TARGET
from gptexp.config.target_settings import settings_of_target
from gptexp.config.yaml_files import check_yaml_file, read_sweep_params
from gptexp.errors import UserError


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's source of YAML files; our own conf/ has the settings classes and the files of plugins as well.

    A file that names `plugins` imports them. A group's file with `_target_` gets the settings class of that target. The
    class has the name of Hydra's own, which it replaces: Hydra compares them by name.
    """

    def is_group(self, config_path: str) -> bool:
        return any(source.is_group(config_path) for source in self._folders())

    def is_config(self, config_path: str) -> bool:
        is_file = any(source.is_config(config_path) for source in self._folders())
        return is_file or self._settings_class(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        folders = [source for source in self._folders() if source.is_group(config_path)]
        names = {name for source in folders for name in source.list(config_path, results_filter)}
        return sorted(names)

    def load_config(self, config_path: str) -> ConfigResult:
        if schema := self._settings_class(config_path):
            config = OmegaConf.structured(schema)
            return ConfigResult(self.provider, "gptexp.config", config, header={"package": None})
        sources = [source for source in self._folders() if source.is_config(config_path)]
        if len(sources) > 1:
            files = " and ".join(f"{source.path}/{config_path}.yaml" for source in sources)
            raise UserError(
                f"{config_path.replace('/', '=')}: there are two files of this name, {files}; rename one"
            )
        source = (sources or self._folders())[0]
        file = Path(source.path) / f"{config_path.removesuffix('.yaml')}.yaml"
        is_of_user = sources and not _is_ours(source.path)
        if is_of_user:
            check_yaml_file(file, config_path)
        result = source.load_config(config_path)
        if isinstance(result.config, DictConfig):
            if is_of_user:
                read_sweep_params(result.config, file)
            import_plugins([str(name) for name in result.config.get("plugins") or []])
            _add_target_settings(config_path, result.config)
        return result

    def _folders(self) -> Sequence[file_config_source.FileConfigSource]:
        folders = [Path(self.path), *(plugin_conf_folders() if _is_ours(self.path) else [])]
        return [file_config_source.FileConfigSource(self.provider, str(path)) for path in folders]

    def _settings_class(self, config_path: str) -> type | None:
        """Return the settings class that YAML files begin with, such as optim/base_muon."""
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        if not _is_ours(self.path):
            return None
        return schemas(group).get(name) if group else {"base_config": Config}.get(name)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the names of the plugins as well: launchers of sweeps compose in other processes."""
        return {**vars(self), "plugins": imported_plugins()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import_plugins(state.pop("plugins"))
        vars(self).update(state)


def _is_ours(path: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(conf_folder())


def install() -> None:
    """Replace Hydra's source of YAML files by ours."""
    SourcesRegistry.instance().types["file"] = FileConfigSource


def register_targets() -> None:
    """Make the settings classes of all files with `_target_`, which Hydra makes only for those that are chosen."""
    source = FileConfigSource("gptexp", conf_folder())
    for group in group_names():
        for name in choices(group):
            source.load_config(f"{group}/{name}")


def _add_target_settings(config_path: str, config: DictConfig) -> None:
    """Let a group's file with `_target_` begin with the settings class of that target."""
    group, _, kind = config_path.removesuffix(".yaml").rpartition("/")
    if group not in group_names():
        return
    inner = config.get(group)  # in a file with `# @package _global_`
    target = config.get(TARGET) or (inner.get(TARGET) if isinstance(inner, DictConfig) else None)
    if target is None:
        return
    schema = settings_of_target(group, kind, str(target))
    register(schema)
    first = f"base_{kind}" if config.get(TARGET) else f"/{group}/base_{kind}@{group}"
    defaults = config.get("defaults") or OmegaConf.create(["_self_"])
    config["defaults"] = OmegaConf.create([first, *defaults])
