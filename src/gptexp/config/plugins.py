"""Plugins: other people's modules, which register settings classes when they are imported and may have a conf/ folder.

A plugin is named by `plugins=[my_package]` on the command line or in a YAML file, by an entry point of the group
`gptexp.plugins`, or by a line in the pyproject.toml of the working folder or of a folder above it:

    [tool.gptexp]
    plugins = ["my_package"]

The conf/ folder lies inside of a package, or beside a module that is a single file.
"""

import os
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptexp.config.group import GroupConfig
from gptexp.config.signature import TARGET, split_target
from gptexp.config.source import EXCLUDED_MODULES, INSTALLED, find_module, top_folder
from gptexp.errors import UserError

if TYPE_CHECKING:
    from gptexp.config.schema import Config

ENTRY_POINTS = "gptexp.plugins"
CHECKOUT = Path(__file__).resolve().parents[3]

_imported: list[str] = []


@cache
def import_installed_plugins() -> None:
    """Import the plugins of entry points and of pyproject.toml. A broken entry point is reported and left out."""
    entry_points = metadata.entry_points(group=ENTRY_POINTS)
    for name in dict.fromkeys(
        [*_read_own_entry_points(), *(entry.value for entry in entry_points)]
    ):
        try:
            import_plugins([name])
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    import_plugins(_read_pyproject_plugins(Path.cwd()))


def import_plugins(names: list[str]) -> None:
    """Import plugins by the names of their modules, also of modules in the working folder.

    Raises:
        UserError: there is no such module, or it fails on import.
    """
    for name in names:
        if name not in _imported:
            make_importable(name)
            if not _is_main_script(name):  # which has registered its classes already
                _import(name)
            _imported.append(name)


def _import(name: str) -> None:
    try:
        import_module(name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"plugin {name}: {_explain_import_error(name, error)}") from None


def make_importable(name: str) -> None:
    """Add the working folder, or that of the project, to the path if the module is there and nowhere else."""
    top = name.split(".")[0]
    if find_module(top):
        return
    for folder in _project_folders(Path.cwd()):
        if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
            add_folders([str(folder)])
            return


def add_folders(folders: list[str]) -> None:
    """Append folders to the module path of this process and of those that it starts."""
    for folder in folders:
        if folder not in sys.path:
            sys.path.append(folder)
            path = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
            os.environ["PYTHONPATH"] = os.pathsep.join([*path, folder])


def imported_plugins() -> list[str]:
    """Return the names of the plugins that this process has imported."""
    return list(_imported)


def plugin_conf_folders() -> list[Path]:
    """Return the conf/ folders of the imported plugins."""
    files = [file for name in _imported if (file := find_module(name))]
    folders = [(file if file.is_dir() else file.parent) / "conf" for file in files]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def modules_of(config: "Config") -> list[str]:
    """Return the modules of other people that a run uses: named plugins, and those of the chosen classes."""
    classes = [type(group).__module__ for group in config.groups()]
    targets = [split_target(target)[0] for target in outside_targets(config)]
    return _outside([*config.plugins, *classes, *targets])


def has_outside_code(config: "Config") -> bool:
    """Return whether this process may execute other people's code: that of the config, or of any imported plugin."""
    return bool(modules_of(config) or _outside(imported_plugins()))


def outside_targets(config: "Config") -> list[str]:
    """Return the classes and functions of other people that a run uses, as MODULE:NAME or MODULE.NAME."""
    targets = [group.target for group in config.groups() if group.target]
    targets += [callback[TARGET] for callback in config.callbacks.values()]
    targets += config.task.metrics
    return [name for name in targets if _outside([split_target(name)[0]])]


def plugins_of(config: "Config") -> list[str]:
    """Return the plugins that have to be imported before the config of this run can be loaded."""
    return list(dict.fromkeys([*config.plugins, *settings_modules(config.groups())]))


def settings_modules(groups: Iterable[GroupConfig]) -> list[str]:
    """Return the modules of other people that register these settings classes."""
    return _outside([type(group).__module__ for group in groups])


def folders_of(modules: list[str]) -> list[str]:
    """Return the folders in which modules were found, except those of installed packages."""
    folders = {top_folder(name) for name in modules} - INSTALLED
    return sorted(str(folder.resolve()) for folder in folders if folder)


def _outside(modules: list[str]) -> list[str]:
    """Return those modules that are other people's, each once."""
    names = dict.fromkeys(_name_of_main(name) for name in modules)
    return [name for name in names if name.split(".")[0] not in EXCLUDED_MODULES]


def _name_of_main(name: str) -> str:
    """Return the name by which other processes import a module: that of its file for the script that runs."""
    if name != "__main__":
        return name
    file = find_module(name)
    if file is None:
        raise UserError(
            "other processes cannot find a class of this session: write it into a module, and name that "
            "in plugins=[...]"
        )
    return file.stem


def _is_main_script(name: str) -> bool:
    """Return whether a module is the script that runs."""
    file, main = find_module(name), find_module("__main__")
    return file is not None and main is not None and file.resolve() == main.resolve()


def _explain_import_error(name: str, error: Exception) -> str:
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return f"{type(error).__name__}: {error}"
    if f"{name}.".startswith(f"{error.name}."):
        return f"there is no module {error.name}. Install it, or start in the folder that it is in"
    return f"it imports {error.name}, which is not installed"


def _read_own_entry_points() -> list[str]:
    """Return the plugins in this checkout's pyproject.toml, whether or not it is installed."""
    project = _read_pyproject(CHECKOUT).get("project", {})
    return list(project.get("entry-points", {}).get(ENTRY_POINTS, {}).values())


def _read_pyproject_plugins(folder: Path) -> list[str]:
    """Return the plugins that the nearest pyproject.toml with `tool.gptexp.plugins` names."""
    for above in (folder, *folder.parents):
        if names := _read_pyproject(above).get("tool", {}).get("gptexp", {}).get("plugins"):
            return list(names)
    return []


def _project_folders(folder: Path) -> list[Path]:
    """Return the working folder, and the nearest one above it that has a pyproject.toml."""
    above = [parent for parent in folder.parents if (parent / "pyproject.toml").is_file()]
    return [folder, *above[:1]]


def _read_pyproject(folder: Path) -> dict[str, Any]:
    file = folder / "pyproject.toml"
    try:
        return tomllib.loads(file.read_text("utf8")) if file.is_file() else {}
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
