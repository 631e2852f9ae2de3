"""Other people's modules: they register settings classes when they are imported.

A plugin comes in by `plugins=[my_package]`, by an entry point of the group `gptexp.plugins`, or by a line in the
pyproject.toml of the working folder or of a folder above it:

    [tool.gptexp]
    plugins = ["my_package"]
"""

import sys
import tomllib
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from gptexp.errors import UserError

ENTRY_POINTS = "gptexp.plugins"
CHECKOUT = Path(__file__).resolve().parents[3]


@cache
def import_installed_plugins() -> None:
    """Import the plugins of entry points and of pyproject.toml. A broken one is reported and left out."""
    modules = [
        *_own_entry_points(),
        *(entry.value for entry in metadata.entry_points(group=ENTRY_POINTS)),
    ]
    for module in dict.fromkeys(modules):
        try:
            import_module(module)
        except Exception as error:
            print(f"plugin {module}: left out, {type(error).__name__}: {error}", file=sys.stderr)
    import_plugins(_named_in_pyproject(Path.cwd()))


def import_plugins(names: list[str]) -> None:
    """Import plugins by the names of their modules.

    Raises:
        UserError: there is no such module, or it fails on import.
    """
    for name in names:
        _import_plugin(name)


def _import_plugin(name: str) -> None:
    try:
        import_module(name)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UserError(
                f"plugins=[{name}]: it imports {error.name}, which is not installed"
            ) from error
        raise UserError(
            f"plugins=[{name}]: there is no module {error.name}. Install it, or start in the folder that it is in"
        ) from error
    except Exception as error:
        raise UserError(f"plugins=[{name}]: {type(error).__name__}: {error}") from error


def _own_entry_points() -> list[str]:
    """Return the plugins in this checkout's pyproject.toml, whether or not it is installed."""
    project = _read_pyproject(CHECKOUT).get("project", {})
    return list(project.get("entry-points", {}).get(ENTRY_POINTS, {}).values())


def _named_in_pyproject(folder: Path) -> list[str]:
    for above in (folder, *folder.parents):
        if names := _read_pyproject(above).get("tool", {}).get("gptexp", {}).get("plugins"):
            return list(names)
    return []


def _read_pyproject(folder: Path) -> dict[str, Any]:
    file = folder / "pyproject.toml"
    try:
        return tomllib.loads(file.read_text("utf8")) if file.is_file() else {}
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
