"""The YAML files that come with the package, and the choices that they and those of plugins make."""

from pathlib import Path

import yaml

from gptexp.config.keys import group_names
from gptexp.config.plugins import plugin_conf_folders

GROUPS = (*group_names(), "callbacks", "experiment")


def conf_folder() -> str:
    return str(_find_shipped_folder("conf"))


def sweep_files() -> list[Path]:
    return sorted(_find_shipped_folder("sweeps").glob("*.yaml"))


def sweep_names() -> list[str]:
    return [path.stem for path in sweep_files()]


def with_shipped_sweeps(words: list[str]) -> list[str]:
    """Let `-cd sweeps` name the shipped sweeps, unless the working folder has sweeps of its own."""
    if Path("sweeps").is_dir():
        return words
    folder = str(_find_shipped_folder("sweeps"))
    replaced: list[str] = []
    for word in words:
        if word == "--config-dir=sweeps":
            replaced += ["--config-dir", folder]
        elif word == "sweeps" and replaced and replaced[-1] in ("-cd", "--config-dir"):
            replaced.append(folder)
        else:
            replaced.append(word)
    return replaced


def _find_shipped_folder(name: str) -> Path:
    """Return a folder inside of the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / name if (package / name).is_dir() else package.parents[1] / name


def choices(group: str) -> list[str]:
    """Return the choices of a group, those of plugins included."""
    folders = [Path(conf_folder()), *plugin_conf_folders()]
    return sorted(path.stem for folder in folders for path in (folder / group).glob("*.yaml"))


def find_choice(group: str, name: str) -> Path:
    """Return the YAML file of a choice, one of `choices(group)`."""
    folders = [Path(conf_folder()), *plugin_conf_folders()]
    files = [folder / group / f"{name}.yaml" for folder in folders]
    return next(path for path in files if path.is_file())


def choices_of_task(name: str) -> dict[str, str]:
    """Return what the file of a task chooses from other groups: {"model": "nano", "data": "spoken"}."""
    settings = yaml.safe_load(find_choice("task", name).read_text("utf8")) or {}
    entries = [entry for entry in settings.get("defaults", []) if isinstance(entry, dict)]
    overrides = {
        key.removeprefix("override /"): value for entry in entries for key, value in entry.items()
    }
    return {group: str(overrides[group]) for group in GROUPS if group in overrides}


def groups_text() -> str:
    """Return the choices of each group, a line each."""
    rows = {group: choices(group) for group in GROUPS}
    return "\n".join(
        f"{group + '=':<12}{' | '.join(names)}" for group, names in rows.items() if names
    )
