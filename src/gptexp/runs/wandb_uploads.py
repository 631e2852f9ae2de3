"""Log to Weights & Biases what comes beside a training: an evaluation, an exported model, the table of a sweep."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from gptexp.config.schema import Config, WandbConfig
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sample_table import sample_table
from gptexp.runs.sweep_folder import SweepFolder
from gptexp.runs.wandb_access import check_wandb
from gptexp.runs.wandb_session import WandbSession, open_session


def with_wandb(config: Config) -> Config:
    """Return the config with the logger of W&B: its own, or the default one.

    Raises:
        UserError: W&B refuses its settings, or is not installed.
    """
    if not isinstance(config.logger, WandbConfig):
        config = replace(config, logger=WandbConfig())
    check_wandb(config)
    return config


def log_evaluation(
    config: Config,
    folder: RunFolder,
    split: str,
    metrics: dict[str, float],
    samples: list[dict[str, Any]],
    scores: list[dict[str, Any]],
) -> bool:
    """Log the metrics and samples of an evaluation as a run of its own; return whether the server has them.

    Args:
        scores: see sample_table.
        config: of the run, as `with_wandb` returns it.
    """
    session = open_session(config, folder, "evaluate", f"evaluate-{split}")
    texts = [
        {key: value for key, value in sample.items() if isinstance(value, str)}
        for sample in samples
    ]

    def log(run: Any) -> None:
        import wandb

        run.summary.update(metrics)
        columns, rows = sample_table(texts, scores)
        run.log({"samples": wandb.Table(columns=columns, data=rows)})

    session.attempt(log)
    return session.close(failed=False)


def log_model(config: Config, folder: RunFolder, exported: Path) -> bool:
    """Log an exported model as an artifact of the run that has trained it; return whether the server has it."""
    session = open_session(config, folder, has_artifacts=True)
    result = folder.result()

    def log(run: Any) -> None:
        import wandb

        artifact = wandb.Artifact(f"model-{run.id}", "model", metadata=result.get("metrics"))
        artifact.add_dir(str(exported))
        run.log_artifact(artifact, aliases=["latest", str(result.get("evaluated", "exported"))])

    session.attempt(log)
    return session.close(failed=False)


def log_sweep(sweep: SweepFolder) -> bool:
    """Log results.csv of a sweep as a run of its own in the group of its jobs; return whether the server has it.

    Nothing is logged where no job of the sweep logs to W&B.
    """
    folders = [folder for entry in sweep.jobs() if (folder := sweep.run_folder(entry))]
    loggers = [folder.config_values()["logger"] for folder in folders]
    logger = next((logger for logger in loggers if logger["kind"] == "wandb"), None)
    if logger is None:
        return False
    names = ("project", "entity", "group", "mode")
    options = WandbConfig(**{name: logger[name] for name in names})
    session = WandbSession(
        replace(options, group=options.group or sweep.name),
        sweep.path,
        sweep.name,
        sweep.results_file,
        job_type="sweep",
        config=sweep.settings(),
    )

    def log(run: Any) -> None:
        import wandb

        with sweep.results_file.open(newline="", encoding="utf8") as lines:
            header, *rows = csv.reader(lines)
        table = [[_as_number(cell) for cell in row] for row in rows]
        run.log({"jobs": wandb.Table(columns=header, data=table, allow_mixed_types=True)})

    session.attempt(log)
    return session.close(failed=False)


def _as_number(text: str) -> float | str | None:
    """Return a cell as a number where it is one, so that W&B sorts and plots it."""
    try:
        return float(text)
    except ValueError:
        return text or None
