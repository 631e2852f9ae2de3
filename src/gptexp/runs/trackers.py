"""Trackers: Weights & Biases, TensorBoard or a CSV file, in addition to metrics.jsonl.

W&B needs no account, key, prompt or network: without a key or a network it writes offline and reports that once.
"""

import csv
import netrc
import os
import sys
from typing import Any
from urllib.parse import urlsplit

from gptexp.config.schema import Config, WandbConfig
from gptexp.config.targets import build_target, import_target
from gptexp.errors import UserError
from gptexp.network import is_reachable
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.tables import SAMPLE_FIELDS

WANDB_SERVER = "https://api.wandb.ai"
# Columns of metrics.csv: entries of a row of metrics.jsonl.
CSV_COLUMNS = ("step", "tokens", "seconds", "train/loss", "train/lr", "val/loss")


class Tracker:
    """Receives a run's metrics and samples. This base class ignores them."""

    def log(self, row: dict[str, Any]) -> None:
        """Log one row of metrics.jsonl."""

    def finish(self, metrics: dict[str, float], samples: list[dict[str, str]]) -> None:
        """Log the final metrics and the samples."""

    def close(self, failed: bool) -> None:
        """Close the tracker. The run always calls it, also when it failed."""


class NoTracker(Tracker):
    """For runs that only keep metrics.jsonl."""

    def __init__(self, config: Config, folder: RunFolder) -> None:
        pass


class Wandb(Tracker):
    def __init__(self, config: Config, folder: RunFolder) -> None:
        import wandb

        options = config.logger
        assert isinstance(options, WandbConfig)
        self.folder = folder.path
        mode: Any = os.environ.get("WANDB_MODE") or options.mode
        if mode == "auto":
            reason = _reason_to_stay_offline()
            mode = "offline" if reason else "online"
            if reason:
                upload = f"wandb sync {folder.path / 'wandb'}/offline-run-*"
                print(f"W&B: offline ({reason}); to upload later: {upload}", file=sys.stderr)
        archived = folder.archived_count()
        self.run = wandb.init(
            project=options.project,
            entity=options.entity,
            group=options.group,
            id=f"{folder.name}-{archived}" if archived else folder.name,
            resume="allow",
            name=config.name or folder.name,
            tags=list(config.tags),
            config=folder.config_values(),
            dir=folder.path,
            mode=mode,
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off"),
        )
        # With `step` as the axis, a resumed curve continues at its checkpoint.
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def log(self, row: dict[str, Any]) -> None:
        self.run.log(row)

    def finish(self, metrics: dict[str, float], samples: list[dict[str, str]]) -> None:
        import wandb

        self.run.summary.update(metrics)
        media_classes = {".png": wandb.Image, ".gif": wandb.Video, ".wav": wandb.Audio}

        def to_wandb(value: str) -> Any:
            file = self.folder / value
            if not value.startswith("samples/") or file.suffix not in media_classes:
                return value
            return media_classes[file.suffix](str(file)) if file.is_file() else value

        columns = list(samples[0]) if samples else list(SAMPLE_FIELDS)
        rows = [[to_wandb(sample[name]) for name in columns] for sample in samples]
        self.run.log({"samples": wandb.Table(columns=columns, data=rows)})

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


class TensorBoard(Tracker):
    def __init__(self, config: Config, folder: RunFolder) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise UserError(
                "logger=tensorboard needs its package: pip install 'gptexp[tensorboard]'"
            ) from error
        rows = folder.metrics()
        next_step = rows[-1]["step"] + 1 if rows else None
        self.writer = SummaryWriter(str(folder.path / "tensorboard"), purge_step=next_step)

    def log(self, row: dict[str, Any]) -> None:
        for name, value in row.items():
            if value is not None:
                self.writer.add_scalar(name, value, row["step"])

    def finish(self, metrics: dict[str, float], samples: list[dict[str, str]]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value)
        text = "\n\n".join(
            "  \n".join(f"**{name}** {sample[name]}" for name in SAMPLE_FIELDS)
            for sample in samples
        )
        self.writer.add_text("samples", text)

    def close(self, failed: bool) -> None:
        self.writer.close()


class Csv(Tracker):
    """Writes metrics.csv, the main columns of metrics.jsonl for a spreadsheet."""

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self.file = folder.path / "metrics.csv"
        with self.file.open("w", newline="") as out:
            csv.writer(out).writerow(CSV_COLUMNS)
        for row in folder.metrics():
            self.log(row)

    def log(self, row: dict[str, Any]) -> None:
        with self.file.open("a", newline="") as out:
            csv.writer(out).writerow([row.get(name) for name in CSV_COLUMNS])


def open_tracker(config: Config, folder: RunFolder) -> Tracker:
    """Open the tracker that the config names.

    Raises:
        UserError: its package is not installed.
    """
    if config.logger.parameters is not None:
        return build_target(config.logger, config=config, folder=folder)
    return import_target(config.logger.target)(config, folder)


def _reason_to_stay_offline() -> str | None:
    server = os.environ.get("WANDB_BASE_URL", WANDB_SERVER)
    if not (os.environ.get("WANDB_API_KEY") or _has_stored_key(server)):
        return "no API key"
    return None if is_reachable(server) else "no network"


def _has_stored_key(server: str) -> bool:
    """Return whether `wandb login` has stored a key, in the user's netrc file."""
    host = urlsplit(server).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
