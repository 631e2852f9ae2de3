"""Trackers: TensorBoard or a CSV file, in addition to metrics.jsonl; Weights & Biases is in a file of its own."""

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from gptexp.config.schema import Config, TensorBoardConfig, WandbConfig
from gptexp.config.targets import build_target, import_target
from gptexp.extras import require_extra
from gptexp.runs import timings
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.tables import SAMPLE_FIELDS

# Columns of metrics.csv: entries of a row of metrics.jsonl.
CSV_COLUMNS = (
    "step",
    "tokens",
    "seconds",
    "flops",
    "train/loss",
    "train/lr",
    "val/loss",
    timings.TOKENS_PER_SECOND,
    timings.STEP_MS,
    timings.TFLOPS,
    timings.MFU,
    timings.PEAK_MEMORY,
    *timings.SHARES,
)


class Tracker:
    """Receives a run's metrics and samples. This base class ignores them.

    Attributes:
        received: when it is opened, the last step whose row it already has; None: the one that loggers.json names.
    """

    received: int | None = None

    def log(self, row: dict[str, Any]) -> None:
        """Log one row of metrics.jsonl."""

    def log_histograms(
        self, step: int, histograms: Mapping[str, tuple[Sequence[int], Sequence[float]]]
    ) -> None:
        """Log histograms of a step: by name, the counts and the edges between them."""

    def finish(self, metrics: dict[str, float], samples: list[dict[str, str]]) -> None:
        """Log the final metrics and the samples."""

    def close(self, failed: bool) -> None:
        """Close the tracker. The run always calls it, also when it failed."""


class NoTracker(Tracker):
    """For runs that only keep metrics.jsonl."""

    def __init__(self, config: Config, folder: RunFolder) -> None:
        pass


class TensorBoard(Tracker):
    def __init__(self, config: Config, folder: RunFolder) -> None:
        from torch.utils.tensorboard import SummaryWriter

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
            "  \n".join(
                f"**{name}** {sample[name]}" for name in filter(sample.__contains__, SAMPLE_FIELDS)
            )
            for sample in samples
        )
        self.writer.add_text("samples", text)

    def close(self, failed: bool) -> None:
        self.writer.close()


class Csv(Tracker):
    """Writes metrics.csv, the main columns of metrics.jsonl for a spreadsheet."""

    received = 0  # it writes the file anew

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self.file = folder.path / "metrics.csv"
        with self.file.open("w", newline="") as out:
            csv.writer(out).writerow(CSV_COLUMNS)

    def log(self, row: dict[str, Any]) -> None:
        with self.file.open("a", newline="") as out:
            csv.writer(out).writerow([row.get(name) for name in CSV_COLUMNS])


def check_tracker(config: Config) -> None:
    """Check that the tracker can start, before anything slow begins.

    Raises:
        UserError: its package is not installed, or W&B would refuse its environment.
    """
    if isinstance(config.logger, WandbConfig):
        from gptexp.runs.wandb_access import check_wandb

        check_wandb(config)
    elif isinstance(config.logger, TensorBoardConfig):
        require_extra("tensorboard", ["tensorboard"])


def open_tracker(config: Config, folder: RunFolder) -> Tracker:
    """Open the tracker that the config names."""
    if config.logger.parameters is not None:
        return build_target(config.logger, config=config, folder=folder)
    return import_target(config.logger.target)(config, folder)
