"""Sorting letters: importing this module registers the settings of the task and the model."""

from dataclasses import dataclass

from gptexp import ModelConfig, register, setting
from gptexp.config.schema import Config, TextToTextConfig
from gptexp.errors import UserError


@register
@dataclass
class SortConfig(TextToTextConfig):
    kind: str = "sort"
    target = "sorting.task:Sort"


@register
@dataclass
class GluConfig(ModelConfig):
    kind: str = "glu"
    target = "sorting.model:GluTransformer"
    gate: str = setting("relu", "activation of the gate", choices=("none", "relu", "sigmoid"))
    smoothing: float = setting(0.0, "label smoothing in training", minimum=0, maximum=0.5)

    def check(self, config: Config) -> None:
        super().check(config)
        if self.experts or self.feed_forward != "swiglu":
            raise UserError("model=glu has a gate of its own: no model.experts or feed_forward")
