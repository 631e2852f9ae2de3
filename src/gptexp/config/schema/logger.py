"""Settings of the loggers: where metrics go in addition to metrics.jsonl."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from gptexp.config.group import GroupConfig
from gptexp.config.registry import register
from gptexp.config.setting import setting


@dataclass
class LoggerConfig(GroupConfig):
    """Settings of every logger. `target` is a Tracker, built with the Config of the run and its RunFolder."""

    config_group: ClassVar[str] = "logger"
    passed: ClassVar[tuple[str, ...]] = ("config", "folder")
    affects_result: ClassVar[bool] = False
    kind: str = setting(MISSING, "name of the chosen logger: logger=NAME")


@register
@dataclass
class WandbConfig(LoggerConfig):
    kind: str = "wandb"
    target = "gptexp.runs.trackers:Wandb"
    project: str = setting("gptexp", "W&B project")
    entity: str | None = setting(None, "W&B team or user")
    group: str | None = setting(None, "W&B group")
    mode: str = setting(
        "auto",
        "W&B mode; auto: online where there are a key and a network",
        choices=("auto", "online", "offline"),
    )


@register
@dataclass
class TensorBoardConfig(LoggerConfig):
    kind: str = "tensorboard"
    target = "gptexp.runs.trackers:TensorBoard"


@register
@dataclass
class CsvConfig(LoggerConfig):
    kind: str = "csv"
    target = "gptexp.runs.trackers:Csv"


@register
@dataclass
class NoLoggerConfig(LoggerConfig):
    kind: str = "none"
    target = "gptexp.runs.trackers:NoTracker"
