"""Learning-rate schedules: the multiplier of the peak learning rate as a function of the step alone."""

import math
from typing import Protocol

from gptexp.config import schema
from gptexp.config.targets import build


class Schedule(Protocol):
    def multiplier(self, step: int, steps: int) -> float:
        """Return what the peak learning rate is multiplied by in step `step` of `steps`."""


class Constant:
    """Linear warm-up, then the peak."""

    def __init__(self, config: schema.ConstantConfig) -> None:
        self.warmup_steps = config.warmup_steps

    def multiplier(self, step: int, steps: int) -> float:
        warmup = min(self.warmup_steps, steps // 2)
        return (step + 1) / (warmup + 1) if step < warmup else 1.0


class Linear(Constant):
    """Linear warm-up, the peak, then a linear decay: warm-up-stable-decay (arXiv 2404.06395)."""

    def __init__(self, config: schema.LinearConfig) -> None:
        super().__init__(config)
        self.decay_fraction, self.final = config.decay_fraction, config.final_lr_fraction

    def multiplier(self, step: int, steps: int) -> float:
        length = min(round(self.decay_fraction * steps), steps - min(self.warmup_steps, steps // 2))
        decayed = step - (steps - length)  # steps into the decay
        if decayed < 0 or length == 0:
            return super().multiplier(step, steps)
        return 1.0 - (1.0 - self.final) * self.decay((decayed + 1) / (length + 1))

    def decay(self, progress: float) -> float:
        """Return how much of the decay is done, from 0 to 1, after this fraction of its steps."""
        return progress


class Cosine(Linear):
    """Linear warm-up, the peak, then a cosine decay (arXiv 1608.03983)."""

    def decay(self, progress: float) -> float:
        return (1 - math.cos(math.pi * progress)) / 2


def build_schedule(config: schema.ScheduleConfig) -> Schedule:
    """Build the schedule that the config names."""
    return build(config)
