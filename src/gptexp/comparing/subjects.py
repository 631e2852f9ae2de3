"""The subjects of a comparison: a run, or the runs of one config over several seeds."""

import glob
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptexp.comparing.run_records import RunRecords
from gptexp.comparing.settings_difference import key_affects_result
from gptexp.errors import UserError
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import SweepFolder, find_run_or_sweep, is_sweep
from gptexp.wording import format_count

PATTERN = re.compile(r"[*?\[]")
ARCHIVED = re.compile(r"\.\d+$")  # by fresh=true


@dataclass(frozen=True)
class Subject:
    """One run, or the runs of one config that differ in their seed."""

    label: str
    runs: tuple[RunFolder, ...]

    def seeds(self) -> list[Any]:
        """Return the seed of each run."""
        return [RunRecords(run).seed for run in self.runs]


def find_subjects(
    words: Sequence[str], outputs: Path = Path("outputs"), each: bool = False
) -> list[Subject]:
    """Find the subjects that words name: runs and sweeps by path or name, and patterns such as 'outputs/translate-*'.

    A config of a sweep is a subject. Runs that differ only in their seed are one subject. The subject of the run
    that is named first comes first.

    Args:
        each: every run is a subject of its own.

    Raises:
        UserError: a word names neither a run nor a sweep.
    """
    runs: dict[Path, RunFolder] = {}  # in the order in which they are named
    configs: list[Subject] = []
    for word in words:
        for folder in _find_folders(word, outputs):
            named = [folder] if isinstance(folder, RunFolder) else []
            if isinstance(folder, SweepFolder):
                of_sweep = _subjects_of(folder)
                configs += of_sweep
                named = [run for subject in of_sweep for run in subject.runs]
            for run in named:
                runs.setdefault(run.path.resolve(), run)
    if each:
        return [Subject(run.name, (run,)) for run in runs.values()]
    rest = dict(runs)
    subjects = []
    for config in configs:  # a run is of one subject, also where several sweeps have it
        paths = [path for run in config.runs if (path := run.path.resolve()) in rest]
        if paths:
            subjects.append(Subject(config.label, tuple(rest.pop(path) for path in paths)))
    subjects += group_by_seed(rest.values())
    positions = {path: position for position, path in enumerate(runs)}
    return sorted(
        subjects, key=lambda subject: min(positions[run.path.resolve()] for run in subject.runs)
    )


def _find_folders(word: str, outputs: Path) -> list[RunFolder | SweepFolder]:
    if PATTERN.search(word) and not Path(word).exists():
        return _match_pattern(word, outputs)
    return [find_run_or_sweep(word, outputs)]


def _match_pattern(pattern: str, outputs: Path) -> list[RunFolder | SweepFolder]:
    """Return the runs whose paths, or names inside `outputs`, match a pattern; where there are none, the sweeps.

    Archived runs, NAME.1, match only a pattern that has a dot.

    Raises:
        UserError: nothing matches.
    """
    for place in (Path(pattern).expanduser(), outputs / pattern):
        paths = sorted(map(Path, glob.glob(str(place))))
        if "." not in place.name:
            paths = [path for path in paths if not ARCHIVED.search(path.name)]
        if runs := [RunFolder(path) for path in paths if (path / "config.yaml").is_file()]:
            return [*runs]
        if sweeps := [SweepFolder(path) for path in paths if is_sweep(path)]:
            return [*sweeps]
    raise UserError(f"{pattern}: no run and no sweep matches it. All runs here: '{outputs}/*'")


def _subjects_of(sweep: SweepFolder) -> list[Subject]:
    """Return the configs of a sweep that have a run."""
    subjects = []
    for overrides, jobs in sweep.configs().items():
        folders = [sweep.run_folder(job) for job in jobs]
        runs = tuple(run for run in folders if run is not None and run.has_config())
        if runs:
            subjects.append(Subject(" ".join(overrides) or sweep.name, runs))
    return subjects


def group_by_seed(runs: Iterable[RunFolder]) -> list[Subject]:
    """Return a subject for each group of runs whose settings and source are equal but for the seed.

    Another run with the same seed, such as one on other devices, is none of another seed: it starts a group of its own.
    """
    groups: dict[tuple[str, int], list[RunFolder]] = {}
    repeats: Counter[tuple[str, str]] = Counter()
    for run in runs:
        config, seed = _config_key(run), str(RunRecords(run).seed)
        groups.setdefault((config, repeats[config, seed]), []).append(run)
        repeats[config, seed] += 1
    sorted_groups = [sorted(group, key=_seed) for group in groups.values()]
    return [Subject(_label(group), tuple(group)) for group in sorted_groups]


def _seed(run: RunFolder) -> int:
    seed = RunRecords(run).seed
    return seed if isinstance(seed, int) else 0


def _label(runs: Sequence[RunFolder]) -> str:
    if len(runs) == 1:
        return runs[0].name
    return f"{runs[0].name} and {format_count(len(runs) - 1, 'other seed')}"


def _config_key(run: RunFolder) -> str:
    """Return what runs of one config share: settings that affect the result, but the seed; and the source."""
    records = RunRecords(run)
    settings = {
        key: value
        for key, value in records.settings.items()
        if key != "seed" and key_affects_result(key)
    }
    source = records.environment.get("source") or records.environment.get("commit")
    return json.dumps([settings, source], sort_keys=True, default=str)
