"""The state of one run, kept up to date from its files: how far it is, how fast, and how long it will take."""

import math
import statistics
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptexp.errors import UserError
from gptexp.runs import timings
from gptexp.runs.run_folder import RunFolder
from gptexp.watching.json_lines import JsonLines

RECENT = 10  # lines of metrics.jsonl that the speed is the median of
MAX_POINTS = 512  # of a loss curve
NO_STEPS = (timings.VALIDATION, timings.CHECKPOINTS, timings.COMPILATION)


@dataclass
class RunProgress:
    """A run folder as a view shows it. `update` reads what is new."""

    folder: RunFolder
    state: str = "killed"  # running, finished, stopped, failed; killed: it says running, and no process holds its lock
    error: str = ""
    step: int = 0
    max_steps: int | None = None
    losses: list[float] = field(default_factory=list)
    val_loss: float | None = None
    result: dict[str, Any] = field(default_factory=dict)
    recent: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=RECENT))
    evaluation_seconds: float | None = None  # between the last step and the result, once finished
    total_seconds: float | None = None  # from the last start to the result, once finished

    def __post_init__(self) -> None:
        self.lines = JsonLines(self.folder.metrics_file)
        self.stride, self.skipped = 1, 0  # a long curve keeps one loss of `stride`
        self.damage = ""  # of result.json
        self.versions: dict[str, tuple[int, int]] = {}

    @property
    def name(self) -> str:
        return self.folder.path.name

    @property
    def modified(self) -> float:
        """When the run last wrote a line, or when it was created; 0 before."""
        return self.lines.modified or _modified(self.folder.path / "config.yaml")

    def update(self) -> None:
        """Read what the run has written since the last call."""
        if self._has_changed("config.yaml"):
            self.max_steps = _read_max_steps(self.folder)
        rows, is_new = self.lines.read_new()
        if is_new:
            self.losses, self.stride, self.skipped = [], 1, 0
            self.step, self.val_loss = 0, None
            self.recent.clear()
        for row in rows:
            self._add(row)
        if self._has_changed("result.json"):
            self._read_result()
        if self.state != "finished":
            self._update_state()

    def _add(self, row: dict[str, Any]) -> None:
        self.step = int(row.get("step") or self.step)
        self.recent.append(row)
        if isinstance(loss := row.get("val/loss"), float):
            self.val_loss = loss
        if isinstance(loss := row.get("train/loss"), float):
            self.skipped = (self.skipped + 1) % self.stride
            if self.skipped == 0:
                self.losses.append(loss)
            if len(self.losses) >= MAX_POINTS:
                self.losses, self.stride = self.losses[::2], 2 * self.stride

    def _read_result(self) -> None:
        file = self.folder.path / "result.json"
        self.damage = ""
        try:
            self.result = self.folder.result()
        except OSError:
            self.result = {}
        except UserError as error:
            self.result, self.damage = {}, str(error)
        self.state = str(self.result.get("status") or "running")
        self.error = str(self.result.get("error") or "")
        if self.state == "finished":
            self.step = self.max_steps = int(self.result.get("steps") or self.step)
            end = _modified(file)
            self.evaluation_seconds = max(0.0, end - _modified(self.folder.metrics_file))
            self.total_seconds = max(0.0, end - _modified(self.folder.path / "config.yaml"))

    def _update_state(self) -> None:
        if self.folder.is_locked():
            self.state, self.error = "running", ""
        elif self.damage:
            self.state, self.error = "damaged", self.damage
        elif self.result.get("status", "running") == "running":
            self.state = "killed"
        else:
            self.state = str(self.result["status"])

    def _has_changed(self, name: str) -> bool:
        """Return whether another file of this name has been written since the last call."""
        try:
            stat = (self.folder.path / name).stat()
        except OSError:
            return self.versions.pop(name, None) is not None
        version = (stat.st_ino, stat.st_mtime_ns)
        has_changed = self.versions.get(name) != version
        self.versions[name] = version
        return has_changed

    def tokens_per_second(self) -> float | None:
        """Return the median of the last lines; of a finished run, that of all its training."""
        if self.state == "finished":
            return self.result.get("tokens_per_second")
        return _median([row.get(timings.TOKENS_PER_SECOND) for row in self.recent])

    def seconds_left(self, evaluation: float | None, now: float | None = None) -> float | None:
        """Return the seconds until the run is finished; None where its speed is not known yet.

        A step counts with its share of validation, checkpoints and compilation.

        Args:
            evaluation: seconds that runs of this kind take between the last step and the result, where known.
        """
        milliseconds = _median([row.get(timings.STEP_MS) for row in self.recent])
        if self.state != "running" or self.max_steps is None or milliseconds is None:
            return None
        lost = statistics.mean(
            min(0.95, sum(row.get(name) or 0.0 for name in NO_STEPS)) for row in self.recent
        )
        training = (self.max_steps - self.step) * milliseconds / 1000 / (1 - lost)
        since = (time.time() if now is None else now) - self.lines.modified
        return max(0.0, training + (evaluation or 0.0) - max(0.0, since))

    def sample(self) -> dict[str, str] | None:
        """Return the first sample of a finished run; None before."""
        samples = self.folder.samples() if self.state == "finished" else []
        return samples[0] if samples else None


def _median(values: list[Any]) -> float | None:
    numbers = [value for value in values if isinstance(value, int | float)]
    return statistics.median(numbers) if numbers else None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read_max_steps(folder: RunFolder) -> int | None:
    """Return trainer.max_steps; None where the config cannot be read."""
    try:
        return int(folder.config_values()["trainer"]["max_steps"])
    except (UserError, ValueError, TypeError, KeyError):
        return None


def state_json(run: RunProgress, evaluation: float | None) -> dict[str, Any]:
    """Return the state of a run as `watch --json` prints it."""
    return {
        "run": str(run.folder.path),
        "state": run.state,
        "step": run.step,
        "max_steps": run.max_steps,
        "train_loss": _finite(run.losses[-1] if run.losses else None),
        "val_loss": _finite(run.val_loss),
        "tokens_per_second": run.tokens_per_second(),
        "seconds_left": run.seconds_left(evaluation),
        "error": run.error or None,
    }


def _finite(value: float | None) -> float | None:
    """Return a number as JSON holds it: null where it is not finite."""
    return value if value is not None and math.isfinite(value) else None
