"""A run is named by what it computes: the id is a hash of every setting that can change the result."""

import json
import re

from gptexp.config.keys import result_settings
from gptexp.config.plugins import modules_of
from gptexp.config.schema import Config
from gptexp.config.source import outside_fingerprint, source_fingerprint
from gptexp.files import short_hash

# Files and folders of the package whose source has a part in a run's id.
RESULT_SOURCES = (
    "checkpoints",
    "data",
    "distributed",
    "generation",
    "model",
    "tasks",
    "training",
    "loss.py",
    "sampling.py",
    "stored_tensors.py",
    "switches.py",
)

MAX_NAME_BYTES = 80  # of a part of a folder's name; file systems allow 255 in all


def run_id(config: Config) -> str:
    """Return eight hex digits over the settings that affect the result and the source that computes it.

    The source of plugins counts where the run uses them. Loggers, folders, progress, and the numbers of workers and
    devices do not count: they change how a result is computed, not the result. Neither do config/, runs/ and the verbs,
    so that a nicer message renames no run.
    """
    return short_hash(f"{settings_id(config)} {' '.join(_sources(config))}")[:8]


def source_id(config: Config) -> str:
    """Return eight hex digits over the source that computes the result, that of the run's plugins included."""
    return short_hash(" ".join(_sources(config)))[:8]


def _sources(config: Config) -> tuple[str, str]:
    """Return the fingerprints of our own source and of that of plugins."""
    return source_fingerprint(*RESULT_SOURCES), outside_fingerprint(modules_of(config))


def settings_id(config: Config) -> str:
    """Return eight hex digits over the settings alone: equal for one config under different versions of the code."""
    return short_hash(json.dumps(result_settings(config), sort_keys=True, default=str))[:8]


def folder_name(config: Config, suffix: str = "") -> str:
    """Return TASK-MODEL-ID, and a suffix that tells jobs of a sweep with equal ids apart."""
    return f"{folder_prefix(config)}{run_id(config)}{as_file_name(suffix)}"


def folder_prefix(config: Config) -> str:
    """Return TASK-MODEL-, the beginning of the folder names of runs of one kind."""
    return f"{as_file_name(f'{config.task.kind}-{config.model.size}')}-"


def as_file_name(text: str) -> str:
    """Replace what file systems, globs and W&B forbid, and cut a long text; a hash keeps changed texts apart."""
    name = text.replace("/", "_")
    legal = re.sub(r"[^\w.,+-]", "_", name).encode()
    if legal.decode() == name and len(legal) <= MAX_NAME_BYTES:
        return name
    return f"{legal[:MAX_NAME_BYTES].decode(errors='ignore')}-{short_hash(text)[:8]}"
