"""Settings of the loggers: where metrics go in addition to metrics.jsonl."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from gptexp.config.group import GroupConfig
from gptexp.config.registry import register
from gptexp.errors import UserError
from gptexp.setting_field import setting

if TYPE_CHECKING:
    from gptexp.config.schema import Config

WANDB_NAME = re.compile(r"(?!\s)[^/\\#?%:]{1,128}(?<!\s)")
MAX_TAG_CHARACTERS = 64


@dataclass
class LoggerConfig(GroupConfig):
    """Settings of every logger. `target` is a Tracker, built with the Config of the run and its RunFolder."""

    config_group: ClassVar[str] = "logger"
    passed: ClassVar[tuple[str, ...]] = ("config", "folder")
    affects_result: ClassVar[bool] = False
    # The settings that name where the metrics go; None: all. A logger of another place receives the whole curve.
    place: ClassVar[tuple[str, ...] | None] = None
    kind: str = setting(MISSING, "name of the chosen logger: logger=NAME")


@register
@dataclass
class WandbConfig(LoggerConfig):
    kind: str = "wandb"
    target = "gptexp.runs.weights_and_biases:Wandb"
    place = ("kind", "project", "entity", "mode")
    project: str = setting("gptexp", "W&B project")
    entity: str | None = setting(None, "W&B team or user")
    group: str | None = setting(None, "W&B group")
    mode: str = setting(
        "auto",
        "W&B mode; auto: online where there are a key and a network",
        choices=("auto", "online", "offline"),
    )
    alerts: bool = setting(True, "send an alert when a run fails, or is stopped outside a sweep")
    log_data: str = setting(
        "none",
        "log the data as an artifact; record: data.json and the tokenizer; store: the encoded data, too",
        choices=("none", "record", "store"),
    )
    log_model: bool = setting(
        False, "export the model at the end, as gptexp.export does, and log it as an artifact"
    )
    histograms_every: int | None = setting(
        None, "steps between histograms of the gradients; null: none", minimum=1
    )

    def check(self, config: "Config") -> None:
        for key, name in (("project", self.project), ("entity", self.entity)):
            if name is not None and not WANDB_NAME.fullmatch(name):
                raise UserError(
                    f"logger.{key}={name}: W&B takes 1 to 128 characters, without spaces around them and "
                    f"without any of / \\ # ? % :"
                )
        for tag in config.tags:
            if not 1 <= len(tag) <= MAX_TAG_CHARACTERS:
                raise UserError(
                    f"tags: '{tag}' has {len(tag)} characters; W&B takes tags of 1 to {MAX_TAG_CHARACTERS}"
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
