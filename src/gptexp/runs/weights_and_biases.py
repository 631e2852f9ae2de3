"""The tracker for Weights & Biases: the curves, samples and result of a run, and its data where that is wished."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptexp.config.schema import Config, WandbConfig
from gptexp.runs import timings
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sample_table import sample_table
from gptexp.runs.tracker_history import record_incomplete
from gptexp.runs.trackers import Tracker
from gptexp.runs.wandb_session import open_session
from gptexp.stages import stage

AXES = ("step", "tokens", "flops", "seconds")  # of charts; they get none of their own
# The value of a metric in the table of runs, where that is not the last one. Full names: beside the pattern * another
# pattern would hold for a random part of its metrics.
SUMMARIES = {
    **dict.fromkeys(
        (timings.TOKENS_PER_SECOND, timings.STEP_MS, timings.TFLOPS, timings.MFU), "mean"
    ),
    timings.PEAK_MEMORY: "max",
    "val/loss": "none",  # the lowest, which the tracker sets by itself: sweeps and tables need a plain number
}


class Wandb(Tracker):
    def __init__(self, config: Config, folder: RunFolder) -> None:
        assert isinstance(config.logger, WandbConfig)
        self.config, self.folder, self.options = config, folder, config.logger
        has_artifacts = self.options.log_data != "none"
        self.session = open_session(config, folder, has_artifacts=has_artifacts)
        self.lowest_loss = math.inf
        self.skipped_steps = 0  # rows up to this step are on the server
        run = self.session.run
        if run is None:
            return
        rows = folder.metrics()
        self.lowest_loss = min(
            (row["val/loss"] for row in rows if "val/loss" in row), default=math.inf
        )
        if self.session.mode == "offline":
            self.received = None if self.session.has_earlier_files() else 0
        elif (
            rows and self.session.mode != "disabled"
        ):  # a resumed run: the server knows best what has arrived
            self.received = self.skipped_steps = run.summary.get("step") or 0
            self.session.mark_earlier_files_as_uploaded()
        self.session.attempt(_define_metrics)

    def log(self, row: dict[str, Any]) -> None:
        if row["step"] <= self.skipped_steps:
            return
        self.session.attempt(lambda run: run.log(row))
        if row.get("val/loss", math.inf) < self.lowest_loss:
            self.lowest_loss = row["val/loss"]
            self.session.attempt(lambda run: run.summary.update({"val/loss": self.lowest_loss}))

    def log_histograms(
        self, step: int, histograms: Mapping[str, tuple[Sequence[int], Sequence[float]]]
    ) -> None:
        import wandb

        if step > self.skipped_steps:
            values = {name: wandb.Histogram(np_histogram=pair) for name, pair in histograms.items()}
            self.session.attempt(lambda run: run.log({"step": step, **values}))

    def finish(self, metrics: dict[str, float], samples: list[dict[str, str]]) -> None:
        with stage("waiting for W&B"):
            self.session.attempt(lambda run: self._log_result(run, metrics, samples))
            if self.options.log_data != "none":
                self.session.attempt(self._log_data)

    def close(self, failed: bool) -> None:
        if self.options.alerts:
            self.session.attempt(self._send_alert)
        if not self.session.close(failed):
            record_incomplete(self.config, self.folder)

    def _log_result(
        self, run: Any, metrics: dict[str, float], samples: list[dict[str, str]]
    ) -> None:
        import wandb

        result, data = self.folder.result(), self.folder.read_record("data")
        figures = {name: result.get(name) for name in ("parameters", "tokens", "tokens_per_second")}
        run.summary.update({**metrics, **figures, "fingerprint": data.get("fingerprint")})
        columns, rows = sample_table(samples, self.folder.scores())
        media_classes = {".png": wandb.Image, ".gif": wandb.Video, ".wav": wandb.Audio}

        def to_wandb(value: Any) -> Any:
            file = self.folder.path / str(value)
            is_media = str(value).startswith("samples/") and file.suffix in media_classes
            return media_classes[file.suffix](str(file)) if is_media and file.is_file() else value

        table = wandb.Table(
            columns=columns, data=[[to_wandb(value) for value in row] for row in rows]
        )
        run.log({"step": result.get("steps"), "samples": table})

    def _log_data(self, run: Any) -> None:
        """Log the account of the data, and the token store where that is wished, as an artifact."""
        import wandb

        record = self.folder.read_record("data")
        fingerprint = str(record.get("fingerprint", ""))
        artifact = wandb.Artifact(
            f"{self.config.task.kind}-{fingerprint[:12]}", "dataset", metadata=record.get("splits")
        )
        artifact.add_file(str(self.folder.path / "data.json"))
        if self.folder.tokenizer.is_file():
            artifact.add_file(str(self.folder.tokenizer))
        store = Path(record.get("store", ""))
        if self.options.log_data == "store" and record.get("store") and store.is_dir():
            artifact.add_dir(str(store), name="store")
        run.log_artifact(artifact)

    def _send_alert(self, run: Any) -> None:
        """Send an alert when the run has failed or was stopped. A sweep stops jobs by itself."""
        result = self.folder.result()
        status = result.get("status")
        if status == "failed" or (status == "stopped" and not self.options.group):
            level = "ERROR" if status == "failed" else "WARN"
            run.alert(f"{self.folder.name}: {status}", str(result.get("error") or status), level)


def _define_metrics(run: Any) -> None:
    """Make the step the axis of all charts, so that a resumed curve continues at its checkpoint."""
    run.define_metric("*", step_metric="step")
    for name in AXES:
        run.define_metric(name, hidden=True)
    for name, summary in SUMMARIES.items():
        run.define_metric(name, step_metric="step", summary=summary)
