"""An optimizer, a learning-rate schedule and a callback."""

from typing import Any

import lightning as L
import torch


class Lion(torch.optim.Optimizer):
    """Moves every weight by the sign of its momentum (Chen et al. 2023, arXiv 2302.06675)."""

    def __init__(
        self, params: Any, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.99
    ) -> None:
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                p.sub_(momentum.lerp(p.grad, 1 - group["beta1"]).sign(), alpha=group["lr"])
                momentum.lerp_(p.grad, 1 - group["beta2"])


class InverseSqrt:
    """Linear warm-up, then the inverse square root of the step (Vaswani et al. 2017)."""

    def __init__(self, warmup_steps: int = 20) -> None:
        self.warmup_steps = max(1, warmup_steps)

    def multiplier(self, step: int, steps: int) -> float:
        progress = (step + 1) / self.warmup_steps
        return min(progress, progress**-0.5)


class GradientSpikes(L.Callback):
    """Reports steps with a gradient that is much larger than the average of those before."""

    def __init__(self, factor: float = 3.0) -> None:
        self.factor, self.average = factor, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        average = self.average or module.grad_norm
        if module.grad_norm > self.factor * average and trainer.is_global_zero:
            print(f"step {module.step}: gradient norm {module.grad_norm:.1f}, not {average:.1f}")
        self.average = 0.95 * average + 0.05 * module.grad_norm

    def state_dict(self) -> dict[str, float]:
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.average = state["average"]
