"""The subjects of a comparison: a run, or the runs of one config over several seeds."""

import glob
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptexp.comparing.settings_difference import flatten, key_affects_result
from gptexp.errors import UserError
from gptexp.runs.run_folder import RunFolder, find_run
from gptexp.wording import format_count

PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Subject:
    """One run, or the runs of one config that differ in their seed."""

    label: str
    runs: tuple[RunFolder, ...]

    def seeds(self) -> list[Any]:
        """Return the seed of each run."""
        return [run.config_values().get("seed") for run in self.runs]


def find_runs(words: Sequence[str], outputs: Path = Path("outputs")) -> list[RunFolder]:
    """Find the runs that words name: paths, names, `latest`, and patterns such as 'outputs/translate-*'.

    A run that several words name comes once.

    Raises:
        UserError: a word names no run.
    """
    runs: dict[Path, RunFolder] = {}
    for word in words:
        found = _match_pattern(word, outputs) if PATTERN.search(word) else []
        for run in found or [find_run(word, outputs)]:
            runs.setdefault(run.path.resolve(), run)
    return list(runs.values())


def _match_pattern(pattern: str, outputs: Path) -> list[RunFolder]:
    """Return the runs whose paths, or names inside `outputs`, match a pattern.

    Raises:
        UserError: there are none, and no file has the name of the pattern.
    """
    if Path(pattern).exists():
        return []
    for place in (Path(pattern).expanduser(), outputs / pattern):
        paths = sorted(map(Path, glob.glob(str(place))))
        runs = [RunFolder(path) for path in paths if (path / "config.yaml").is_file()]
        if runs:
            return runs
    raise UserError(
        f"{pattern}: no run folder matches it. A run folder has a config.yaml; those here: {outputs}/*"
    )


def group_by_seed(runs: Iterable[RunFolder]) -> list[Subject]:
    """Return a subject for each group of runs whose settings and source are equal but for the seed."""
    groups: dict[str, list[RunFolder]] = {}
    for run in runs:
        groups.setdefault(_config_key(run), []).append(run)
    return [Subject(_label(group), tuple(group)) for group in groups.values()]


def each_alone(runs: Iterable[RunFolder]) -> list[Subject]:
    """Return a subject for each run."""
    return [Subject(run.name, (run,)) for run in runs]


def _label(runs: Sequence[RunFolder]) -> str:
    if len(runs) == 1:
        return runs[0].name
    return f"{runs[0].name} and {format_count(len(runs) - 1, 'other seed')}"


def _config_key(run: RunFolder) -> str:
    """Return what runs of one config share: settings that affect the result, but the seed; source; result's data."""
    settings = {
        key: value
        for key, value in flatten(run.config_values()).items()
        if key != "seed" and key_affects_result(key)
    }
    environment = run.read_record("environment")
    source = environment.get("source") or environment.get("commit")
    return json.dumps([settings, source], sort_keys=True, default=str)
