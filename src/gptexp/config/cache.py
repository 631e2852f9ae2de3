"""The folder of prepared data: where the settings or the environment name it, or where this machine allows one."""

import os
import sys
from pathlib import Path

from gptexp.config.schema import Config
from gptexp.errors import UserError

DEFAULT = "~/.cache/gptexp"


def cache_folder(config: Config) -> Path:
    """Return `cache`, $GPTEXP_CACHE or ~/.cache/gptexp; where there is no home to write to, OUTPUTS/.cache.

    Raises:
        UserError: `cache` or $GPTEXP_CACHE names no folder, and none can be created there.
    """
    for key, value in (("cache", config.cache), ("GPTEXP_CACHE", os.environ.get("GPTEXP_CACHE"))):
        if value:
            return _create_named(key, value)
    try:
        folder = Path(DEFAULT).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
        reason = "Permission denied"
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        reason = getattr(error, "strerror", None) or str(error)
    fallback = Path(config.outputs) / ".cache"
    if not fallback.is_dir():
        fallback.mkdir(parents=True, exist_ok=True)
        print(
            f"{DEFAULT}: {reason}. Prepared data goes to {fallback}; cache=FOLDER or GPTEXP_CACHE names another folder",
            file=sys.stderr,
        )
    return fallback


def _create_named(key: str, value: str) -> Path:
    try:
        folder = Path(value).expanduser()
        # In /proc and the like a folder exists, and none can be created inside.
        (folder / "store").mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{key}={value}: no folder for prepared data ({reason}). Set {key} to a folder that you may write to"
        ) from None
    return folder
