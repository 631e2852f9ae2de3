"""Callbacks and optimizers of others in a run: they see its steps, and resume with it."""

import lightning as L
import pytest
import torch
from conftest import likeness
from lightning.pytorch.callbacks import EarlyStopping

from gptexp.errors import UserError
from gptexp.run import run
from gptexp.training import module as training_module


class WeightAverage(L.Callback):
    """Keeps a mean of the weights, and the validation losses that it has seen."""

    def __init__(self, fails_at=None):
        self.fails_at, self.steps = fails_at, 0
        self.mean, self.losses = {}, []

    def on_train_batch_end(self, trainer, module, *_):
        self.steps += 1
        for name, parameter in module.model.named_parameters():
            value = parameter.detach().clone()
            self.mean[name] = 0.9 * self.mean.get(name, value) + 0.1 * value
        if self.steps == self.fails_at:
            raise RuntimeError("the machine went away")

    def on_validation_end(self, trainer, module):
        # sharded weights cannot be gathered in inference mode
        assert not torch.is_inference_mode_enabled()
        assert not trainer.fit_loop.epoch_loop.val_loop.inference_mode
        self.losses.append(float(trainer.callback_metrics["val/loss"]))

    def state_dict(self):
        return {"steps": self.steps, "mean": self.mean, "losses": self.losses}

    def load_state_dict(self, state):
        self.steps, self.mean, self.losses = state["steps"], state["mean"], state["losses"]


def test_a_callback_resumes_with_the_run(translation):
    uninterrupted, first, second = WeightAverage(), WeightAverage(fails_at=10), WeightAverage()
    folder = run(translation("outputs=uninterrupted"), callbacks=[uninterrupted])
    with pytest.raises(RuntimeError, match="went away"):
        run(translation(), callbacks=[first])
    assert likeness(run(translation(), callbacks=[second])) == likeness(folder)
    assert second.steps == 12
    assert second.losses == uninterrupted.losses
    assert second.losses == pytest.approx(
        [row["val/loss"] for row in folder.metrics() if "val/loss" in row]
    )
    assert all(
        torch.equal(second.mean[name], uninterrupted.mean[name]) for name in uninterrupted.mean
    )
    assert (folder.checkpoint() / "callbacks.safetensors").is_file()


def test_a_callback_can_end_the_training_early(translation):
    stopping = EarlyStopping("val/loss", stopping_threshold=99.0, check_on_train_epoch_end=False)
    folder = run(translation(), callbacks=[stopping])
    assert (folder.result()["status"], folder.result()["steps"]) == ("finished", 4)
    assert folder.checkpoint().name == "step-000004"


def test_callback_objects_are_refused_where_processes_are_started(translation):
    with pytest.raises(UserError, match=r"callbacks\.NAME\._target_"):
        run(translation("trainer.devices=2"), callbacks=[WeightAverage()])


class GroupState(torch.optim.Optimizer):
    """Plain gradient descent with a counter for each parameter and a running scale in the group."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1, "peak_lr": 0.1, "scale": 1.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["scale"] *= 0.9
            for p in group["params"]:
                self.state[p]["updates"] = self.state[p].get("updates", 0) + 1
                p -= group["lr"] * group["scale"] / self.state[p]["updates"] * p.grad


def test_an_optimizer_from_outside_resumes_with_the_run(translation, monkeypatch):
    monkeypatch.setattr(
        training_module, "build_optimizers", lambda model, _: [GroupState(model.parameters())]
    )
    uninterrupted = run(translation("outputs=uninterrupted"))
    with pytest.raises(RuntimeError, match="went away"):
        run(translation(), callbacks=[WeightAverage(fails_at=10)])
    assert likeness(run(translation())) == likeness(uninterrupted)
