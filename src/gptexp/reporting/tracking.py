"""Curves beside metrics.jsonl: Weights & Biases, TensorBoard or CSV, through Lightning's loggers.

W&B never needs an account, a key, a prompt or the network: without them it writes offline and says so once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from gptexp.config.errors import UserError
from gptexp.config.identity import run_id
from gptexp.config.network import is_reachable
from gptexp.config.schema import Config

DEFAULT_SERVER = "https://api.wandb.ai"


class Tracker:
    """One run in the tracker that the config names; without one, every method does nothing."""

    def __init__(self, config: Config, settings: dict[str, Any], folder: Path) -> None:
        self.kind = config.logger.kind
        self.logger: Any = None
        name = config.name or folder.resolve().name
        if self.kind == "wandb":
            self.logger = _wandb(config, name, folder)
            run = self.logger.experiment  # starts it now, so that a failure shows before training
            run.config.update(settings, allow_val_change=True)
            run.define_metric("step")  # a resumed curve goes on where the checkpoint was
            run.define_metric("*", step_metric="step")
        elif self.kind == "tensorboard":
            self.logger = _tensorboard(folder)
        elif self.kind == "csv":
            from lightning.pytorch.loggers import CSVLogger

            self.logger = CSVLogger(folder, name="", version="csv")

    def log(self, row: dict[str, Any]) -> None:
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float)}
        if self.kind == "wandb":
            self.logger.experiment.log(numbers)
        elif self.logger is not None:
            self.logger.log_metrics(numbers, step=int(row["step"]))

    def finish(self, metrics: dict[str, float], samples: list[dict[str, str]]) -> None:
        """The final metrics as the run's summary, and the samples as a table."""
        if self.kind == "wandb":
            import wandb

            run = self.logger.experiment
            run.summary.update(metrics)
            if samples:
                columns = ["input", "reference", "output"]
                rows = [[sample[name] for name in columns] for sample in samples]
                run.log({"samples": wandb.Table(columns=columns, data=rows)})
        elif self.logger is not None and metrics:
            self.logger.log_metrics(metrics)

    def close(self, failed: bool) -> None:
        if self.kind == "wandb":
            import wandb

            wandb.finish(exit_code=int(failed))
        elif self.logger is not None:
            self.logger.finalize("failed" if failed else "success")


def _wandb(config: Config, name: str, folder: Path) -> Any:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    settings = config.logger
    mode = os.environ.get("WANDB_MODE") or settings.mode
    if mode == "auto":
        reason = _why_offline()
        mode = "offline" if reason else "online"
        if reason:
            print(f"W&B: offline ({reason}); upload later with: wandb sync {folder / 'wandb'}/offline-run-*", file=sys.stderr)
    return WandbLogger(
        name=name, project=settings.project, id=run_id(config), save_dir=folder, mode=mode, resume="allow",
        group=settings.group, tags=list(config.tags), entity=settings.entity,
        settings=wandb.Settings(silent=True, console="off"),
    )  # fmt: skip


def _why_offline() -> str | None:
    import wandb

    server = os.environ.get("WANDB_BASE_URL", DEFAULT_SERVER)
    try:
        key = os.environ.get("WANDB_API_KEY") or wandb.api.api_key
    except Exception:  # W&B raises kinds of its own for a settings file that it cannot read
        key = None
    if not key:
        return "no API key"
    return None if is_reachable(server, 3.0) else "no network"


def _tensorboard(folder: Path) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(folder, name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise UserError("logger=tensorboard needs its package: pip install 'gptexp[tensorboard]'") from error
