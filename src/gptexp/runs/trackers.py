"""Curves beside metrics.jsonl: Weights & Biases, TensorBoard or a CSV file.

W&B never needs an account, a key, a prompt or the network: without them it writes offline and says so once.
"""

import csv
import netrc
import os
import sys
from typing import Any
from urllib.parse import urlsplit

from gptexp.config.schema import Config
from gptexp.errors import UserError
from gptexp.network import is_reachable
from gptexp.runs.run_folder import RunFolder

WANDB_SERVER = "https://api.wandb.ai"
METRICS = (
    "step",
    "tokens",
    "seconds",
    "train/loss",
    "train/lr",
    "val/loss",
)  # of a line of metrics.jsonl
COLUMNS = ("input", "reference", "output")  # of the table of samples; and what else a task shows


class Tracker:
    """Where a run's curves go beside its own folder. This one keeps nothing."""

    def log(self, row: dict[str, Any]) -> None:
        """One line of metrics.jsonl."""

    def finish(self, metrics: dict[str, float], samples: list[dict[str, str]]) -> None:
        """The final metrics, and the samples as a table."""

    def close(self, failed: bool) -> None:
        """Always called, also when the run failed."""


class Wandb(Tracker):
    def __init__(self, config: Config, folder: RunFolder) -> None:
        import wandb

        options = config.logger
        self.folder = folder.path
        mode: Any = os.environ.get("WANDB_MODE") or options.mode
        if mode == "auto":
            reason = _why_offline()
            mode = "offline" if reason else "online"
            if reason:
                upload = f"wandb sync {folder.path / 'wandb'}/offline-run-*"
                print(f"W&B: offline ({reason}); to upload later: {upload}", file=sys.stderr)
        self.run = wandb.init(
            project=options.project,
            entity=options.entity,
            group=options.group,
            id=f"{folder.name}-{earlier}" if (earlier := folder.archived_count()) else folder.name,
            resume="allow",
            name=config.name or folder.name,
            tags=list(config.tags),
            config=folder.settings(),
            dir=folder.path,
            mode=mode,
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.run.define_metric("step")  # a resumed curve goes on where its checkpoint was
        self.run.define_metric("*", step_metric="step")

    def log(self, row: dict[str, Any]) -> None:
        self.run.log(row)

    def finish(self, metrics: dict[str, float], samples: list[dict[str, str]]) -> None:
        import wandb

        self.run.summary.update(metrics)
        columns = list(samples[0]) if samples else list(COLUMNS)
        kinds = {".png": wandb.Image, ".gif": wandb.Video, ".wav": wandb.Audio}

        def shown(value: str) -> Any:
            file = self.folder / value if value.startswith("samples/") else None
            return (
                kinds[file.suffix](str(file))
                if file and file.suffix in kinds and file.is_file()
                else value
            )

        rows = [[shown(sample[name]) for name in columns] for sample in samples]
        self.run.log({"samples": wandb.Table(columns=columns, data=rows)})

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


class TensorBoard(Tracker):
    def __init__(self, folder: RunFolder) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise UserError(
                "logger=tensorboard needs its package: pip install 'gptexp[tensorboard]'"
            ) from error
        rows = folder.metrics()
        goes_on_at = rows[-1]["step"] + 1 if rows else None
        self.writer = SummaryWriter(str(folder.path / "tensorboard"), purge_step=goes_on_at)

    def log(self, row: dict[str, Any]) -> None:
        for name, value in row.items():
            if value is not None:
                self.writer.add_scalar(name, value, row["step"])

    def finish(self, metrics: dict[str, float], samples: list[dict[str, str]]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value)
        text = "\n\n".join(
            "  \n".join(f"**{name}** {sample[name]}" for name in COLUMNS) for sample in samples
        )
        self.writer.add_text("samples", text)

    def close(self, failed: bool) -> None:
        self.writer.close()


class Csv(Tracker):
    """metrics.jsonl as a table that a spreadsheet opens."""

    def __init__(self, folder: RunFolder) -> None:
        self.file = folder.path / "metrics.csv"
        with self.file.open("w", newline="") as out:
            csv.writer(out).writerow(METRICS)
        for row in folder.metrics():
            self.log(row)

    def log(self, row: dict[str, Any]) -> None:
        with self.file.open("a", newline="") as out:
            csv.writer(out).writerow([row.get(name) for name in METRICS])


def open_tracker(config: Config, folder: RunFolder) -> Tracker:
    """The tracker that the config names.

    Raises:
        UserError: its package is not installed.
    """
    match config.logger.kind:
        case "wandb":
            return Wandb(config, folder)
        case "tensorboard":
            return TensorBoard(folder)
        case "csv":
            return Csv(folder)
    return Tracker()


def _why_offline() -> str | None:
    server = os.environ.get("WANDB_BASE_URL", WANDB_SERVER)
    if not (os.environ.get("WANDB_API_KEY") or _stored_key(server)):
        return "no API key"
    return None if is_reachable(server, 3.0) else "no network"


def _stored_key(server: str) -> bool:
    """Whether `wandb login` has left a key: it keeps them in the user's netrc file."""
    try:
        return (
            netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(server).hostname or "")
            is not None
        )
    except (OSError, netrc.NetrcParseError):
        return False
