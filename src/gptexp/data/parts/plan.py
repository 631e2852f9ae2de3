"""The plan of a store in parts, plan.json: the units of its input, and what all processes must have alike."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.files import dumps_with_checksum, loads_checked, sha256, write_text

LOCK = ".gptexp-tokenize.lock"  # marks a folder as one that gptexp tokenize has made
NOUNS = {"source": "code of gptexp", "task": "settings of the task"}
MAX_NAMES = 3  # of changed files in a message


def check_folder(path: Path) -> None:
    """Check that a folder is new, empty or one that gptexp tokenize has made.

    Raises:
        UserError: it holds other files.
    """
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if names and LOCK not in names and "plan.json" not in names:
        raise UserError(f"--to {path}: holds other files ({names[0]}). Give a new folder")


def make_folder(path: Path) -> None:
    """Make the folder of a store.

    Raises:
        UserError: it cannot be made.
    """
    check_folder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--to {path}: cannot be made ({error.strerror}). Give another folder"
        ) from None


def write_or_compare_plan(
    path: Path, plan: dict[str, Any], build_tokenizer: Callable[[], Tokenizer]
) -> None:
    """Write the tokenizer and the plan into a new folder, or compare the plan that another process has written.

    The caller holds the folder's lock.

    Raises:
        UserError: the folder was made with other settings, inputs or code, or its tokenizer was replaced since.
    """
    file, tokenizer_file = path / "plan.json", path / "tokenizer.json"
    if not file.is_file():
        build_tokenizer().save(tokenizer_file)
        content = {**plan, "tokenizer.json": sha256(tokenizer_file)}
        write_text(file, dumps_with_checksum(content))
        return
    try:
        existing = loads_checked(file.read_text())
        digest = existing["tokenizer.json"]
        changed = [key for key in plan if plan[key] != existing[key]]
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"{file}: damaged, or not written by this version of gptexp tokenize. Give a new folder"
        ) from None
    if changed:
        raise UserError(f"--to {path}: {_describe_changes(changed, plan, existing)}")
    if not tokenizer_file.is_file() or sha256(tokenizer_file) != digest:
        raise UserError(
            f"{tokenizer_file}: is not the tokenizer that the parts are written with. Put that file back, or give a "
            f"new folder with --to"
        )


def _describe_changes(changed: list[str], plan: dict[str, Any], existing: dict[str, Any]) -> str:
    nouns = [NOUNS.get(key, f"settings of {key}") for key in changed if key != "input"]
    if "input" in changed:
        nouns.insert(0, "input files")
    text = f"was begun with other {' and '.join(nouns)}"
    names = sorted(_files_of(plan) ^ _files_of(existing))
    if changed == ["input"] and names:
        files = list(dict.fromkeys(json.loads(name)[0] for name in names))
        more = f" and {len(files) - MAX_NAMES} more" if len(files) > MAX_NAMES else ""
        return (
            f"{text}: {', '.join(files[:MAX_NAMES])}{more} (size or time of the last change). Parts of a changed input "
            f"are not written anew one by one: give a new folder, which encodes all texts, or put the files back"
        )
    return f"{text}. Give the same, or a new folder"


def _files_of(plan: dict[str, Any]) -> set[str]:
    """Return the name, the size and the time of each input file of a plan."""
    pieces = [piece for unit in plan["input"][1:] for piece in unit["pieces"]]
    return {json.dumps([piece["name"], piece["size"], piece["mtime_ns"]]) for piece in pieces}
