"""The environment of a run: command, library versions, commit with uncommitted changes, and machine."""

import os
import platform
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from gptexp.runs.wandb_access import hide_key

LIBRARIES = (
    "gptexp",
    "torch",
    "lightning",
    "hydra-core",
    "transformers",
    "tokenizers",
    "datasets",
    "wandb",
    "babel",
)
CHECKOUT = Path(__file__).parents[3]  # of src/gptexp/runs/environment.py
MAX_DIFF_CHARACTERS = 200_000
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"


def describe_environment() -> dict[str, Any]:
    """Return the command, library versions, commit with uncommitted changes, and machine of this process."""
    commit, changes = _describe_source()
    return {
        "command": [hide_key(word) for word in (sys.executable, *sys.argv)],
        "time": time.strftime(TIME_FORMAT),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
        "commit": commit,
        "uncommitted": changes,
        "machine": {"host": platform.node(), "system": platform.platform(), "cpus": os.cpu_count()},
        "slurm": {key: value for key, value in os.environ.items() if key.startswith("SLURM_JOB")},
    }


def _describe_source() -> tuple[str | None, str | None]:
    """Return the commit of gptexp's own checkout and its uncommitted changes; None: git does not know this file.

    A repository around an installed gptexp is that of somebody else.
    """
    file = Path(__file__)
    if not _git(file.parent, "ls-files", "--error-unmatch", file.name):
        return None, None
    commit = _git(file.parent, "rev-parse", "HEAD").strip()
    changes = hide_key(_git(CHECKOUT, "diff", "HEAD", "--", "."))
    return commit or None, changes[:MAX_DIFF_CHARACTERS] or None


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str:
    """Return the output of a git command; "" if it fails."""
    try:
        process = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            encoding="utf8",
            errors="replace",  # in the diff of a file that is not UTF-8
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout if process.returncode == 0 else ""


def reproduce_command(words: list[str]) -> str:
    """Return the recorded words as a command: `gptexp run ...` instead of the paths of interpreter and module."""
    names = [Path(word).name for word in words[:2]]
    if len(words) > 1 and names[1] in ("run.py", "gptexp", "__main__.py"):
        verb = words[2:]
        if names[1] == "run.py":
            verb = ["run", *verb]
        return shlex.join(["gptexp", *verb])
    return shlex.join(words)
