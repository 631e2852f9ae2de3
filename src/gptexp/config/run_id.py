"""A run is named by what it computes: the id is a hash of every setting that can change the result."""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

from gptexp.config.keys import result_settings
from gptexp.config.schema import Config

COMPUTING = ("checkpoints", "data", "distributed", "generation", "model", "tasks", "training")


def run_id(config: Config) -> str:
    """Eight hex digits over the settings that affect the result, and over the source that computes it.

    Loggers, folders, progress, worker and device counts are left out: they say how a result is computed, not which.
    config/, reporting/ and the verbs compute nothing, so that a nicer message renames no run.
    """
    return _digest(f"{settings_id(config)} {source_fingerprint(*COMPUTING)}")[:8]


def settings_id(config: Config) -> str:
    """The same without the source: equal for runs of one config under different versions of the code."""
    return _digest(json.dumps(result_settings(config), sort_keys=True, default=str))[:8]


def folder_name(config: Config) -> str:
    return f"{config.task.kind}-{config.model.size}-{run_id(config)}"


@cache
def source_fingerprint(*places: str) -> str:
    """A hash of what the source in these files and folders of the package does: comments, docstrings and layout do not
    count."""
    package = Path(__file__).resolve().parents[1]
    files = sorted(
        file for place in places for file in [*(package / place).rglob("*.py"), package / place]
    )
    return _digest(
        "".join(
            f"{file.relative_to(package)}\n{_normalized_source(file)}\n"
            for file in files
            if file.is_file()
        )
    )


@cache
def _normalized_source(path: Path) -> str:
    tree = ast.parse(path.read_text("utf8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                del node.body[0]
    return ast.unparse(tree)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
