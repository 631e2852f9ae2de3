"""The run folder: its files, and the only code that reads or writes its records.

config.yaml       the resolved config
environment.json  command, versions, commit, uncommitted changes, machine, device
data.json         sources with versions and licences, counts, fingerprint
metrics.jsonl     one object a logged step; runs/timings.py names the entries that measure speed
samples.jsonl     input, reference and output of a few held-out examples; their images and audio in samples/
scores.jsonl      the scores of each held-out example, and the loss of each held-out batch
harness/          the scores of gptexp evaluate --harness
checkpoints/      step-000100/ ...
resumed.yaml      config.yaml of the run that `resume` names
loggers.json      the loggers that have received the metrics, and up to which step
crash.json        the step that a guard stopped
before.json       metrics and outputs of the weights that training starts from (task.score_before)
insight.json      a held-out sequence with the loss of each token, and the attention of the final model over it
micro_batch.json  the micro-batch size that fits into memory, where it is smaller than configured
trace.json.gz, profile.txt  of trainer.profile
result.json       status, steps, tokens, speed, metrics
history.jsonl     one object each time that the status of the run changes
report.html       the run as a page
"""

import fcntl
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from filelock import FileLock, Timeout

from gptexp.config import compose, package_data
from gptexp.config.run_id import source_id
from gptexp.config.schema import Config
from gptexp.errors import UserError, describe_error, nearest
from gptexp.files import atomic_folder, read_json_object, short_hash, write_text
from gptexp.runs.environment import TIME_FORMAT, describe_environment
from gptexp.runs.record_types import check_groups, check_record
from gptexp.wording import first_line

RecordName = Literal[
    "before", "crash", "data", "environment", "insight", "loggers", "micro_batch", "result"
]
CHECKPOINT_NAME = re.compile(r"step-\d+")
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # twenty times as fast as OmegaConf


class RunFolder:
    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.metrics_file = self.path / "metrics.jsonl"
        self.samples_file = self.path / "samples.jsonl"
        self.scores_file = self.path / "scores.jsonl"
        self.history_file = self.path / "history.jsonl"
        self.report_file = self.path / "report.html"
        self.tokenizer = self.path / "tokenizer.json"
        self.resumed_config_file = self.path / "resumed.yaml"

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def create(self, config: Config) -> None:
        """Create the folder with config.yaml and environment.json, or rewrite both in an existing folder."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        compose.save_config(config, self.path / "config.yaml")
        self.write_record("environment", **describe_environment(), source=source_id(config))

    def copy_progress_from(self, other: Self) -> None:
        """Create the folder with the checkpoints, the metrics and the config of another run."""
        with atomic_folder(self.path) as temporary:
            if other.checkpoints.is_dir():
                shutil.copytree(other.checkpoints, temporary / other.checkpoints.name)
            if other.metrics_file.is_file():
                shutil.copy(other.metrics_file, temporary)
            config = other.path / "config.yaml"
            shutil.copy(config, temporary / self.resumed_config_file.name)

    def config(self) -> Config:
        return compose.load_config(self.path / "config.yaml")

    def resumed_config(self) -> Config | None:
        """Return the config of the run that this one continues, if `resume` named one."""
        file = self.resumed_config_file
        return compose.load_config(file) if file.is_file() else None

    def config_values(self) -> dict[str, Any]:
        """Return config.yaml as plain nested values, without composing or checking them.

        Raises:
            UserError: the file cannot be read.
        """
        file = self.path / "config.yaml"
        try:
            text = file.read_text("utf8")
            values = yaml.load(text, FastLoader)
            values = values if isinstance(values, dict) else {}
            check_groups(values, package_data.GROUPS)
            if "seed" not in values and not text.endswith("\n"):
                raise ValueError("it ends in the middle")
        except (ValueError, yaml.YAMLError) as error:
            raise _damaged(file, first_line(error)) from None
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({first_line(error)})") from None
        return values

    def read_record(self, name: RecordName) -> dict[str, Any]:
        """Return the content of NAME.json; {} if there is no such file.

        Raises:
            UserError: the file is damaged, or is that of another program.
        """
        file = self.path / f"{name}.json"
        values = _read_json(file)
        try:
            check_record(name, values)
        except ValueError as error:
            raise _damaged(file, error) from None
        return values

    def write_record(self, name: RecordName, /, **values: Any) -> None:
        """Write NAME.json in place of what it held."""
        _write_json(self.path / f"{name}.json", values)

    def result(self) -> dict[str, Any]:
        """Return the content of result.json; {} before anything was written."""
        return self.read_record("result")

    def update_result(self, **values: Any) -> None:
        """Set entries of result.json and keep its others; append a change of the status to history.jsonl."""
        self.write_record("result", **{**self.result(), **values})
        if "status" in values:
            self._append_history(values["status"], values.get("error"))

    def _append_history(self, status: str, error: str | None) -> None:
        rows = self.metrics() if status != "running" else []
        event = {
            "time": time.strftime(TIME_FORMAT),
            "status": status,
            "step": rows[-1].get("step", 0) if rows else self.steps_done(),
            "host": platform.node(),
            "process": os.getpid(),
            "error": error,
        }
        with self.history_file.open("a", encoding="utf8") as out:
            out.write(json.dumps(event) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """Return each change of the status, with its time, step and host; [] in a run of an earlier version."""
        return _read_lines(self.history_file)

    def update_environment(self, **values: Any) -> None:
        """Set entries of environment.json that are known only where the run computes."""
        self.write_record("environment", **{**self.read_record("environment"), **values})

    @contextmanager
    def record_failure(self, config: Config) -> Iterator[None]:
        """Write the reason into result.json when the block fails and nobody has written it yet.

        A mistake of the user that is found before the run has a folder leaves none behind.
        """
        had_config, before = self.has_config(), self._result_version()
        try:
            yield
        except Exception as error:
            # On a full disk, the first error is the one to report.
            with suppress(OSError, UserError):
                is_unwritten = self._result_version() == before
                is_recorded = not is_unwritten and self.result().get("status") != "running"
                is_unchanged = is_unwritten and had_config == self.has_config()
                was_not_begun = is_unchanged and (had_config or not self.path.exists())
                if not is_recorded and not (was_not_begun and isinstance(error, UserError)):
                    self.create(config)
                    self.update_result(status="failed", error=describe_error(error))
            raise

    def _result_version(self) -> tuple[int, int] | None:
        """Return what changes whenever result.json is written, also with equal content; None: there is none."""
        try:
            stat = (self.path / "result.json").stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def has_config(self) -> bool:
        """Return whether the folder has a config.yaml; a run that is being prepared has none yet."""
        return (self.path / "config.yaml").is_file()

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Append one logged step to metrics.jsonl."""
        with self.metrics_file.open("a", encoding="utf8") as out:
            out.write(json.dumps(row) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl."""
        return _read_lines(self.metrics_file)

    def truncate_metrics(self, step: int, log_every: int) -> None:
        """Drop the rows of metrics.jsonl after `step`, and a last line that was cut short.

        A row of `step` that only the end of a process has caused goes, too: a run that was not stopped has no such row.
        """
        rows = [row for row in self.metrics() if row["step"] <= step]
        if rows and rows[-1]["step"] == step and step % log_every and "val/loss" not in rows[-1]:
            rows.pop()
        write_text(self.metrics_file, "".join(json.dumps(row) + "\n" for row in rows))

    def write_samples(self, samples: list[dict[str, Any]]) -> None:
        """Write samples.jsonl. Images and audio go to files, and the samples name these."""
        lines = []
        for number, sample in enumerate(samples, 1):
            saved = {
                name: self._save_media(value, f"{number:02}-{name}")
                for name, value in sample.items()
            }
            lines.append(json.dumps(saved, ensure_ascii=False) + "\n")
        write_text(self.samples_file, "".join(lines))

    def _save_media(self, value: Any, name: str) -> str:
        """Save an image or audio clip and return its file's name; return any other value as text."""
        if not hasattr(value, "save"):
            return str(value)
        file = self.path / "samples" / f"{name}{value.suffix}"
        file.parent.mkdir(exist_ok=True)
        value.save(file)
        return str(file.relative_to(self.path))

    def samples(self) -> list[dict[str, str]]:
        """Return the rows of samples.jsonl."""
        return _read_lines(self.samples_file)

    def write_scores(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write scores.jsonl: one object for each held-out example and batch (see training/example_scores.py)."""
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        text = "".join(lines).encode("utf8", "replace")  # of lone surrogates
        write_text(self.scores_file, text.decode("utf8"))

    def scores(self, split: str | None = None) -> list[dict[str, Any]]:
        """Return the rows of scores.jsonl, or those of one split; [] in a run of an earlier version."""
        rows = _read_lines(self.scores_file)
        return [row for row in rows if split is None or row.get("split") == split]

    def checkpoint(self, name: str = "last") -> Path | None:
        """Return the checkpoint `last`, `best` or `step-NNNNNN`; None if there is none."""
        path = self.checkpoints / name
        if path.is_file():  # a pointer: a file that holds the name of a folder
            path = self.checkpoints / path.read_text(errors="replace").strip()
        is_checkpoint = CHECKPOINT_NAME.fullmatch(path.name) is not None and path.is_dir()
        return path if is_checkpoint else None

    def best_checkpoint(self) -> Path | None:
        """Return the best checkpoint, or the last one of a run without validation data."""
        return self.checkpoint("best") or self.checkpoint("last")

    def steps_done(self) -> int:
        """Return the step of the last checkpoint; 0 if there is none."""
        checkpoint = self.checkpoint()
        return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0

    def weights_digest(self, name: str | None = None) -> str:
        """Return the step and a hash of a checkpoint's weights, by its manifest. None: the best checkpoint.

        Raises:
            UserError: there is no such checkpoint.
        """
        checkpoint = self.checkpoint(name) if name else self.best_checkpoint()
        files = _read_json(checkpoint / "manifest.json").get("files", {}) if checkpoint else {}
        hashes = sorted(files[file]["sha256"] for file in files if file.startswith("model"))
        if not hashes or checkpoint is None:
            raise UserError(
                f"{self.path}: has no checkpoint yet; repeat the run's command to train it"
            )
        return f"{checkpoint.name} {short_hash(''.join(hashes))}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run's lock, so that one process trains it. The system frees the lock when the process ends.

        The lock lies beside the folder, because `archive` renames the folder.

        Raises:
            UserError: another process holds it.
        """
        file = self.path.parent / ".locks" / f"{self.name}.lock"
        holder_file = file.with_suffix(".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = _read_json(holder_file)
            raise UserError(
                f"{self.path}: is being trained by process {holder.get('process')} on {holder.get('host')}. "
                f"Wait for it, or stop it first"
            ) from None
        try:
            _write_json(holder_file, {"process": os.getpid(), "host": platform.node()})
            yield
        finally:
            holder_file.unlink(missing_ok=True)
            lock.release()

    def is_locked(self) -> bool:
        """Return whether a process trains the run."""
        file = self.path.parent / ".locks" / f"{self.name}.lock"
        # The holder's file lies beside a lock that is held, or whose holder was killed: only then is the lock tested,
        # so that this test, which takes it for an instant, does not stop a run that starts.
        if file.with_suffix(".json").is_file():
            with suppress(OSError), file.open("rb") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False

    def archived_count(self) -> int:
        """Return the number of the last archived folder, NAME.1, NAME.2, ...; 0 if there is none."""
        archived = self.path.parent.glob(f"{self.name}.*")
        numbers = [int(path.suffix[1:]) for path in archived if path.suffix[1:].isdigit()]
        return max(numbers, default=0)

    def archive(self) -> Path:
        """Rename the folder to NAME.1, NAME.2, ...: `fresh=true` deletes nothing."""
        archived = self.path.with_name(f"{self.path.name}.{self.archived_count() + 1}")
        self.path.rename(archived)
        return archived


def find_run(name: str, outputs: Path = Path("outputs")) -> RunFolder:
    """Find a run folder by path, by its name inside `outputs`, or as `latest`.

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
    path = Path(name).expanduser()
    if (run := find_run_around(path)) is not None:
        raise UserError(f"{name}: is inside a run folder. Give that folder: {run}")
    known = sorted(map(str, runs))
    reason = "it has no config.yaml" if path.exists() else "there is no such folder"
    if path.is_file():
        reason = "it is a file"
    raise UserError(
        f"{name}: not a run folder ({reason}).{nearest(name, known)} "
        f"Runs here: {', '.join(known) or 'none'}"
    )


def find_run_around(path: Path) -> Path | None:
    """Return the run folder that a file or folder lies in; None: it lies in none."""
    for parent in path.parents if path.exists() else ():
        if (parent / "config.yaml").is_file() and (parent / "checkpoints").is_dir():
            return parent
    return None


def _read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; {} if there is no such file."""
    try:
        return read_json_object(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: ValueError | str) -> UserError:
    return UserError(f"{path}: is damaged ({error}). Delete it and repeat the run's command")


def _write_json(path: Path, values: dict[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON object of each line, up to a line that was cut short or damaged."""
    rows = []
    for line in path.read_text("utf8", "replace").split("\n") if path.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows
