"""Compute a crashed step again on one process, one sequence at a time, and find where it stops being finite."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from gptexp.checkpoints.checkpoint import Checkpoint
from gptexp.checkpoints.load_model import load_run
from gptexp.data.loader import DataModule
from gptexp.distributed import devices
from gptexp.runs.run_folder import RunFolder
from gptexp.tasks.prepare import prepare
from gptexp.training.continuation import complete_state, restore_order
from gptexp.training.micro_batches import loss_inputs
from gptexp.training.module import seed_step
from gptexp.training.reference import prepare_reference


@dataclass
class Replay:
    loss: float
    grad_norm: float
    examples: list[int]  # of the global batch whose own loss or gradient is not finite
    module: str | None  # name of the first module whose output is not finite

    @property
    def is_reproduced(self) -> bool:
        return not (math.isfinite(self.loss) and math.isfinite(self.grad_norm))

    def lines(self) -> list[str]:
        module = self.module or "none; the gradient is not finite"
        return [
            f"replayed: loss {self.loss:.6g}, gradient norm {self.grad_norm:.6g}",
            f"examples that are not finite by themselves: {self.examples or 'none'}",
            f"first module whose output is not finite: {module}",
        ]


def replay(folder: RunFolder) -> Replay:
    """Compute loss and gradient of the step in crash.json, from the weights that were saved before it.

    Raises:
        UserError: the checkpoint of that step is missing or damaged.
    """
    config, step = folder.config(), folder.read_record("crash")["step"]
    data = prepare(config, folder.tokenizer)
    device = devices.pick_device(config.trainer.accelerator)
    prepare_reference(config, data.task, data.store, device)
    model, _ = load_run(folder, Checkpoint.folder_name(step))
    model.to(device).train()
    batches = DataModule(
        data.task.layout, data.store, config.trainer, config.seed, config.data.order_block
    )
    state = Checkpoint(folder.checkpoints / Checkpoint.folder_name(step)).state
    state = complete_state(state, folder, config)
    restore_order(batches, state, is_same_data=True)
    batch = batches.batches()[step]
    assert batch.examples is not None
    hook = _NonFiniteHook(model)
    total, examples = 0.0, []
    for row in range(len(batch)):
        [sequence] = batch.rows(slice(row, row + 1)).split()
        seed_step(config.seed, step, 0)
        inputs = move_data_to_device(loss_inputs(model, sequence, device), device)
        with devices.autocast(config.trainer.precision, device):
            loss = model.loss(**inputs).mean(batch.counts)
        loss.backward()
        total += float(loss.detach())
        if not (math.isfinite(float(loss.detach())) and math.isfinite(_grad_norm(model))):
            examples.append(int(batch.examples[row]))
            model.zero_grad()  # each sequence is judged by itself
    return Replay(total, math.nan if examples else _grad_norm(model), examples, hook.first)


class _NonFiniteHook:
    """Remembers the first module whose output is not finite."""

    def __init__(self, model: nn.Module) -> None:
        self.first: str | None = None
        for name, module in model.named_modules():
            if name:
                module.register_forward_hook(partial(self._check, name))

    def _check(self, name: str, _: nn.Module, __: Any, output: Any) -> None:
        if self.first is None and isinstance(output, Tensor) and not torch.isfinite(output).all():
            self.first = name


def _grad_norm(model: nn.Module) -> float:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
