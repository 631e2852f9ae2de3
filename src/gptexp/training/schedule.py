"""Learning-rate schedules: the multiplier of the peak learning rate as a function of the step alone."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from gptexp.config import schema
from gptexp.config.keys import iter_settings
from gptexp.config.targets import build

MAX_GROWTH = 2.0  # of the learning rate from one step to the next, in a re-warm-up
MIN_START = 1e-6  # multiplier that a re-warm-up starts from, where the earlier run ended below it


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


@dataclass(frozen=True)
class Continuation:
    """The end of an earlier run, which was planned with another schedule or number of steps."""

    step: int  # steps done
    multiplier: float  # of the last of them


class Plan:
    """The multiplier of every step of a run: a schedule over `steps`, joined to the rate of the run that it continues.

    Where the schedule lies above that rate, the rate rises to it by equal factors: a re-warm-up (arXiv 2403.08763).
    Where it lies below, the rate falls evenly to the schedule's end. Where both agree, as in the stable phase of
    warm-up-stable-decay, the plan is the schedule itself.
    """

    def __init__(
        self, config: schema.ScheduleConfig, steps: int, continuation: Continuation | None = None
    ) -> None:
        self.config, self.steps, self.continuation = config, steps, continuation
        self.schedule: Schedule = build(config)

    @classmethod
    def restore(
        cls, config: schema.ScheduleConfig, steps: int, step: int, state: dict[str, Any]
    ) -> "Plan":
        """Return the plan of a run that goes on after `step` steps, from the `state` that its checkpoint keeps."""
        if step == 0:
            return cls(config, steps)
        if state["settings"] == _settings(config, steps):
            continuation = state["continuation"]
            return cls(config, steps, Continuation(**continuation) if continuation else None)
        return cls(config, steps, Continuation(step, state["multiplier"]))

    def state(self, step: int) -> dict[str, Any]:
        """Return what `restore` needs after `step` steps, as JSON."""
        return {
            "settings": _settings(self.config, self.steps),
            "multiplier": self.multiplier(max(0, step - 1)),
            "continuation": asdict(self.continuation) if self.continuation else None,
        }

    def multiplier(self, step: int) -> float:
        """Return the factor of the peak learning rate in a step."""
        planned = self.schedule.multiplier(step, self.steps)
        if self.continuation is None:
            return planned
        first = self.continuation.step
        gap = self._gap()
        if gap < 0:
            exponent = (step - first + 1) * math.log(self._growth())
            return min(planned, self._start() * math.exp(min(exponent, 50.0)))
        return planned + gap * (1 - (step - first + 1) / (self.steps - first))

    def describe(self, step: int) -> str:
        """Return how the learning rate goes on after `step` steps, in words; "" where no other plan ended there."""
        if self.continuation is None or self.continuation.step != step:
            return ""
        first, before = self.continuation.step, self.continuation.multiplier
        gap = self._gap()
        rising = range(first, min(self.steps, first + self._rewarmup_steps() + 21))
        top = max(rising, key=self.multiplier)
        if gap == 0 or (gap < 0 and self.multiplier(top) < 1.01 * before):
            return f"the learning rate goes on at {before:.3g} of its peak, as schedule={self.config.kind} has it"
        if gap > 0:
            return (
                f"the learning rate falls evenly from {before:.3g} of its peak "
                f"to {self.multiplier(self.steps - 1):.3g} at step {self.steps}"
            )
        return (
            f"the learning rate rises from {before:.3g} to {self.multiplier(top):.3g} of its peak at step {top + 1} "
            f"(a re-warm-up) and then follows schedule={self.config.kind} to step {self.steps}"
        )

    def _gap(self) -> float:
        """Return how far the earlier run's last multiplier lies above the schedule's; 0 where they agree."""
        assert self.continuation is not None
        planned = self.schedule.multiplier(self.continuation.step - 1, self.steps)
        before = self.continuation.multiplier
        return 0.0 if math.isclose(before, planned, rel_tol=1e-9) else before - planned

    def _start(self) -> float:
        assert self.continuation is not None
        return max(self.continuation.multiplier, MIN_START)

    def _growth(self) -> float:
        """Return the factor from step to step of a re-warm-up, which reaches the peak after `warmup_steps`."""
        if self._start() >= 1:
            return MAX_GROWTH
        return min(MAX_GROWTH, (1 / self._start()) ** (1 / (self._rewarmup_steps() + 1)))

    def _rewarmup_steps(self) -> int:
        assert self.continuation is not None
        warmup_steps = getattr(self.config, "warmup_steps", 0)
        return min(warmup_steps, (self.steps - self.continuation.step) // 2)


def _settings(config: schema.ScheduleConfig, steps: int) -> dict[str, Any]:
    """Return the settings of a schedule, as they come back from JSON."""
    settings = {key: value for key, _, value in iter_settings(config)}
    return json.loads(json.dumps({**settings, "max_steps": steps}, default=str))
