"""Settings of the learning-rate schedules."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from gptexp.config.group import GroupConfig
from gptexp.config.registry import register
from gptexp.setting_field import setting


@dataclass
class ScheduleConfig(GroupConfig):
    """Settings of every schedule. `target` is a class, built with (config), that has `multiplier(step, steps)`."""

    config_group: ClassVar[str] = "schedule"
    kind: str = setting(MISSING, "name of the chosen schedule: schedule=NAME")


@register
@dataclass
class ConstantConfig(ScheduleConfig):
    kind: str = "constant"
    target = "gptexp.training.schedule:Constant"
    warmup_steps: int = setting(10, "steps of linear warm-up", minimum=0)


@register
@dataclass
class LinearConfig(ConstantConfig):
    kind: str = "linear"
    target = "gptexp.training.schedule:Linear"
    decay_fraction: float = setting(
        0.6, "last fraction of the steps, in which the learning rate decays", minimum=0, maximum=1
    )
    final_lr_fraction: float = setting(
        0.0, "learning rate at the end of the decay, as a fraction of the peak", minimum=0
    )


@register
@dataclass
class CosineConfig(LinearConfig):
    kind: str = "cosine"
    target = "gptexp.training.schedule:Cosine"
