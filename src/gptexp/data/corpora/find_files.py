"""Find the files that a path names: a file, a folder or a pattern. Hidden files and folders are skipped."""

import difflib
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from gptexp.config import schema
from gptexp.config.schema.mixture import explain_source
from gptexp.errors import UserError

# Folders and files that systems and programs add, beside those whose names begin with a dot.
SYSTEM_NAMES = {
    "__MACOSX",
    "__pycache__",
    "$RECYCLE.BIN",
    "System Volume Information",
    "Thumbs.db",
    "desktop.ini",
    "lost+found",
    "node_modules",
}
ENVIRONMENT_ENTRIES = ("pyvenv.cfg", "conda-meta")  # in the top folder of a Python environment


def is_hidden(path: PurePath) -> bool:
    """Return whether a relative path is hidden, is below a hidden folder, or is a lock file of an office program."""
    return _is_system_path(path) or any(
        part.startswith(".") and part not in (".", "..") for part in path.parts
    )


def find_files(path: str, key: str) -> list[Path]:
    """Return the files of a folder, the files that match a pattern, or the file itself, in the order of their names.

    Args:
        key: the setting, for messages.

    Raises:
        UserError: there is no such file or folder, the folder is a saved data set, or nothing matches.
    """
    root = Path(path)
    if root.is_dir():
        if is_saved_dataset(root):
            raise UserError(
                f"{key}={path}: a folder written by save_to_disk. Read it with data=hub data.name={path}"
            )
        return sorted(root / relative for relative in _walk(root))
    if glob.has_magic(path) and not root.is_file():
        base, pattern = _split_pattern(path)
        files = [
            base / name
            for name in sorted(glob.glob(pattern, root_dir=base, recursive=True))
            if (base / name).is_file() and not _is_skipped(base, PurePath(name))
        ]
        if not files:
            raise UserError(f"{key}={path}: no file matches this pattern")
        return files
    return [require_file(root)]


def check_paths(config: schema.DataConfig) -> None:
    """Check that the files exist that the settings of data name, before anything slow begins.

    Raises:
        UserError: one does not.
    """
    if isinstance(config, schema.MixtureConfig):
        for name, source in config.source_configs().items():
            with explain_source(name):
                check_paths(source)
    if not isinstance(config, schema.FilesConfig | schema.MediaTableConfig | schema.TokensConfig):
        return
    for name in ("path", "val_path", "test_path"):
        value = getattr(config, name, None) or []
        for path in value if isinstance(value, list) else [value]:
            if not (os.path.lexists(path) or schema.data.URL.match(path)):
                find_files(path, f"data.{name}")


def require_file(file: Path) -> Path:
    """Return a file that exists.

    Raises:
        UserError: it does not, and the message names the nearest file in its folder; or it cannot be read again.
    """
    if file.is_file():
        return file
    if file.is_symlink():
        raise UserError(f"{file}: a link to {file.readlink()}, which does not exist")
    if file.exists():
        raise UserError(
            f"{file}: is not a regular file. It is read several times: write it to a file first"
        )
    if variable := re.search(r"\$\{?\w+\}?", str(file)):
        raise UserError(
            f"{file}: no such file or folder. A shell replaces {variable[0]} in double quotes, not in single ones"
        )
    raise UserError(f"{file}: no such file or folder.{nearest_neighbour(file)}")


def nearest_neighbour(file: Path) -> str:
    """Return " Did you mean 'x'?" with the file of the same folder whose name is nearest, or ""."""
    others = sorted(file.parent.glob("*"), key=lambda other: other.suffix == file.suffix)
    by_stem = {other.stem.lower(): other for other in others}
    stems = difflib.get_close_matches(file.stem.lower(), by_stem, n=1, cutoff=0.75)
    return f" Did you mean '{by_stem[stems[0]]}'?" if stems else ""


def is_saved_dataset(folder: Path) -> bool:
    """Return whether `save_to_disk` of the package datasets wrote a folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _walk(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, as relative paths."""
    for folder, folders, names in os.walk(root):
        relative = Path(folder).relative_to(root)
        folders[:] = [
            name
            for name in folders
            if not is_hidden(PurePath(name)) and not _is_environment(Path(folder) / name)
        ]
        yield from (
            relative / name
            for name in names
            if not is_hidden(PurePath(name)) and (root / relative / name).is_file()
        )


def _split_pattern(path: str) -> tuple[Path, str]:
    """Split a pattern into the folder that exists under its exact name, and the rest."""
    base = Path(path).anchor or "."
    parts = Path(path).relative_to(base).parts if Path(path).anchor else Path(path).parts
    folder, index = Path(base), 0
    while index < len(parts) - 1 and (folder / parts[index]).is_dir():
        folder, index = folder / parts[index], index + 1
    return folder, os.path.join(*parts[index:])


def _is_skipped(base: Path, path: PurePath) -> bool:
    """Return whether a path that a pattern matched is skipped, although glob does not know that it is hidden."""
    in_environment = any(_is_environment(base / folder) for folder in path.parents[:-1])
    return in_environment or _is_system_path(path)


def _is_system_path(path: PurePath) -> bool:
    return any(part.startswith("~$") or part in SYSTEM_NAMES for part in path.parts)


def _is_environment(folder: Path) -> bool:
    return any((folder / name).exists() for name in ENVIRONMENT_ENTRIES)
