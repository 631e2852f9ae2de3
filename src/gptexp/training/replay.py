"""One step again, on one process, with eyes open."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gptexp.checkpoints.load_model import load_run
from gptexp.data.batches import StepIndexedDataset
from gptexp.distributed import devices
from gptexp.runs.run_folder import RunFolder
from gptexp.tasks.prepare import prepare
from gptexp.training.module import seed_step


@dataclass
class Replay:
    loss: float
    norm: float
    examples: list[int]  # of the global batch whose own loss or gradient is not finite
    first: str | None  # name of the first module whose output is not finite

    @property
    def is_reproduced(self) -> bool:
        return not (math.isfinite(self.loss) and math.isfinite(self.norm))

    def lines(self) -> list[str]:
        return [
            f"replayed: loss {self.loss:.6g}, gradient norm {self.norm:.6g}",
            f"examples that are not finite by themselves: {self.examples or 'none'}",
            f"first module whose output is not finite: {self.first or 'none, it is the gradient'}",
        ]


def replay(folder: RunFolder) -> Replay:
    """Loss and gradient of the step in crash.json, from the weights that were saved before it.

    Raises:
        UserError: there is no whole checkpoint.
    """
    config, step = folder.config(), folder.read_record("crash")["step"]
    prepared = prepare(config, folder.tokenizer)
    device = devices.pick_device(config.trainer.accelerator)
    model, _ = load_run(folder, f"step-{step:06d}")
    model.to(device).train()
    sequences = prepared.task.layout.dataset(prepared.store, "train", config.seed)
    batch = StepIndexedDataset(sequences, config.seed, config.trainer.global_batch_size, 0, 1)[
        step
    ].to(device)
    watch = _NonFiniteHook(model)
    total, bad = 0.0, []
    assert batch.examples is not None
    for row in range(len(batch)):
        [one] = batch.rows(slice(row, row + 1)).split()
        seed_step(config.seed, step, 0)
        with devices.autocast(config.trainer.precision, device):
            loss = model.loss(**one.inputs()).mean(batch.counts)
        loss.backward()
        total += (nats := float(loss.detach()))
        if not (math.isfinite(nats) and math.isfinite(_norm(model))):
            bad.append(int(batch.examples[row]))
            model.zero_grad()  # so that the next one is judged by itself
    return Replay(total, math.nan if bad else _norm(model), bad, watch.first)


class _NonFiniteHook:
    """Remembers the first module that gives out something that is not finite."""

    def __init__(self, model: nn.Module) -> None:
        self.first: str | None = None
        for name, module in model.named_modules():
            if name:
                module.register_forward_hook(partial(self._look, name))

    def _look(self, name: str, _: nn.Module, __: Any, output: Any) -> None:
        if self.first is None and isinstance(output, Tensor) and not torch.isfinite(output).all():
            self.first = name


def _norm(model: nn.Module) -> float:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
