"""The run folder: what is in it, and the only code that reads or writes its records.

config.yaml       the resolved config
environment.json  command, versions, commit, uncommitted changes, machine
data.json         sources with versions and licences, counts, fingerprint
metrics.jsonl     one object a logged step
samples.jsonl     input, reference and output of a few held-out examples; their pictures and sound in samples/
checkpoints/      step-000100/ ...
crash.json        the step that a guard stopped
result.json       status, steps, tokens, speed, metrics
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Self, cast

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from gptexp.config import compose
from gptexp.config.schema import Config
from gptexp.errors import UserError, nearest

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


class RunFolder:
    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.metrics_file = self.path / "metrics.jsonl"
        self.samples_file = self.path / "samples.jsonl"
        self.tokenizer = self.path / "tokenizer.json"

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def create(self, config: Config) -> None:
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        compose.save(config, self.path / "config.yaml")
        _write_json(self.path / "environment.json", environment())

    def copy_progress_from(self, other: Self) -> None:
        """Begin with the checkpoints and the curve of another run."""
        temporary = self.path.with_name(
            f".{self.path.name}.tmp"
        )  # a kill in between must not leave half of it
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name in ("checkpoints", "metrics.jsonl"):
            source = other.path / name
            if source.is_dir():
                shutil.copytree(source, temporary / name)
            elif source.is_file():
                shutil.copy(source, temporary / name)
        temporary.rename(self.path)

    def config(self) -> Config:
        return compose.load(self.path / "config.yaml")

    def result(self) -> dict[str, Any]:
        """result.json, or {} before anything was written."""
        return self.read("result")

    def write_result(self, **values: Any) -> None:
        self.write("result", **{**self.result(), **values})

    def settings(self) -> dict[str, Any]:
        """config.yaml as plain values, for dashboards."""
        return cast(
            dict[str, Any], OmegaConf.to_container(OmegaConf.load(self.path / "config.yaml"))
        )

    def read(self, record: str) -> dict[str, Any]:
        """What is in crash.json, data.json, result.json or micro_batch.json, or {}.

        The last says what fits into memory, where that has turned out to be less than was asked for.
        """
        return _read_json(self.path / f"{record}.json")

    def write(self, record: str, /, **values: Any) -> None:
        _write_json(self.path / f"{record}.json", values)

    def log(self, row: dict[str, Any]) -> None:
        with self.metrics_file.open("a") as out:
            out.write(json.dumps(row) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        return _read_lines(self.metrics_file)

    def truncate_metrics(self, step: int) -> None:
        """Drop what was logged after the checkpoint that training goes on from, and a line that was cut short."""
        rows = [row for row in self.metrics() if row["step"] <= step]
        _replace(self.metrics_file, "".join(json.dumps(row) + "\n" for row in rows))

    def write_samples(self, samples: list[dict[str, Any]]) -> None:
        """Texts, and the names of the files that pictures and sound are written to."""
        samples = [
            {name: self._save_media(value, f"{number:02}-{name}") for name, value in sample.items()}
            for number, sample in enumerate(samples, 1)
        ]
        _replace(
            self.samples_file,
            "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples),
        )

    def _save_media(self, value: Any, name: str) -> str:
        if not hasattr(value, "save"):
            return str(value)
        file = self.path / "samples" / f"{name}{value.suffix}"
        file.parent.mkdir(exist_ok=True)
        value.save(file)
        return str(file.relative_to(self.path))

    def samples(self) -> list[dict[str, str]]:
        return _read_lines(self.samples_file)

    def checkpoint(self, which: str = "last") -> Path | None:
        """The checkpoint that `last` or `best` names, or `step-NNNNNN`; None where there is none."""
        pointer = self.checkpoints / which
        found = (
            self.checkpoints / pointer.read_text(errors="replace").strip()
            if pointer.is_file()
            else pointer
        )
        return found if found.is_dir() else None

    def trained(self) -> Path | None:
        """The checkpoint to use: the best, or the last of a run without validation data."""
        return self.checkpoint("best") or self.checkpoint("last")

    def weights_digest(self, which: str | None = None) -> str:
        """What the weights of a checkpoint are: a hash that its manifest holds. None: the one to use.

        Raises:
            UserError: there is none.
        """
        found = self.checkpoint(which) if which else self.trained()
        files = _read_json(found / "manifest.json").get("files", {}) if found else {}
        hashes = sorted(files[name]["sha256"] for name in files if name.startswith("model"))
        if not hashes or found is None:
            raise UserError(f"{self.path}: has no checkpoint yet; its own command trains it")
        return f"{found.name} {hashlib.sha256(''.join(hashes).encode()).hexdigest()[:16]}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Held while a run is trained; the system lets go of it when the process ends, however it ends.

        The lock lies beside the folder, which may be put aside meanwhile.

        Raises:
            UserError: another process holds it.
        """
        file = self.path.parent / ".locks" / f"{self.name}.lock"
        holder = file.with_suffix(".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            said = _read_json(holder)
            raise UserError(
                f"{self.path}: is being trained by process {said.get('process')} on {said.get('host')}. "
                f"Wait for it, or stop it first"
            ) from error
        try:
            _write_json(holder, {"process": os.getpid(), "host": platform.node()})
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def archived_count(self) -> int:
        """The number of the folder that `fresh=true` has put aside last; 0: none."""
        others = self.path.parent.glob(f"{self.name}.*")
        return max(
            (int(path.suffix[1:]) for path in others if path.suffix[1:].isdigit()), default=0
        )

    def archive(self) -> Path:
        """Rename the folder to NAME.1, NAME.2, ...: `fresh=true` loses nothing."""
        aside = self.path.with_name(f"{self.path.name}.{self.archived_count() + 1}")
        self.path.rename(aside)
        return aside


def find_run(name: str, outputs: Path = Path("outputs")) -> RunFolder:
    """A run folder by path, by name inside `outputs`, or `latest`.

    Raises:
        UserError: there is none.
    """
    runs = [path.parent for path in outputs.glob("*/config.yaml")]
    if name == "latest":
        if not runs:
            raise UserError(
                f"latest: there is no run in {outputs}/ yet. Train one: python -m gptexp.run"
            )
        return RunFolder(max(runs, key=lambda run: (run / "config.yaml").stat().st_mtime))
    for path in (Path(name).expanduser(), outputs / name):
        if (path / "config.yaml").is_file():
            return RunFolder(path)
    known = [str(run) for run in runs]
    raise UserError(
        f"{name}: not a run folder (it has no config.yaml).{nearest(name, known)} "
        f"Runs here: {', '.join(sorted(known)) or 'none'}"
    )


def environment() -> dict[str, Any]:
    here = Path(__file__).parent
    return {
        "command": [sys.executable, *sys.argv],
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
        "commit": _git(here, "rev-parse", "HEAD").strip() or None,
        "uncommitted": _git(here, "diff", "HEAD")[:200_000] or None,
        "machine": {"host": platform.node(), "system": platform.platform(), "cpus": os.cpu_count()},
        "slurm": {key: value for key, value in os.environ.items() if key.startswith("SLURM_JOB")},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _read_json(path: Path) -> dict[str, Any]:
    """{} where there is no such file."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(
            f"{path}: is damaged ({error}). Delete it and run the run's command again"
        ) from error
    if not isinstance(found, dict):
        raise UserError(
            f"{path}: is damaged (not a JSON object). Delete it and run the run's command again"
        )
    return found


def _read_lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the process was killed in the middle of this line, the last one
    return rows


def _write_json(path: Path, value: Any) -> None:
    _replace(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _replace(path: Path, text: str) -> None:
    """Write a file so that it is either the old one or the new one, whatever happens."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
