"""The learning rate as a share of its peak, a function of the step alone."""

import math

from gptexp.config.schema import OptimConfig


def lr_multiplier(config: OptimConfig, step: int, steps: int) -> float:
    """Warm-up over the first `warmup` steps, then constant, then decay over the last `decay` share of the steps.

    Linear decay after a constant stretch is the warm-up-stable-decay of arXiv 2404.06395; cosine is arXiv 1608.03983.
    """
    warmup = min(config.warmup_steps, steps // 2)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    length = min(round(config.decay_fraction * steps), steps - warmup)
    done = step - (steps - length)  # steps into the decay
    if config.schedule == "constant" or done < 0 or length == 0:
        return 1.0
    progress = (done + 1) / (length + 1)
    fall = progress if config.schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
    return 1.0 - (1.0 - config.final_lr_fraction) * fall
