import pytest
import torch

from gptexp import selftest


@pytest.mark.parametrize(
    ("gpus", "line", "words"),
    [
        (0, "devices: the CPU; torch finds no GPU", []),
        (
            1,
            "devices: 1 GPU (H100); runs of two processes, which need two, compare on the CPU",
            ["trainer.accelerator=cpu"],
        ),
        (8, "devices: 2 of 8 GPUs (H100)", []),
    ],
)
def test_it_takes_the_devices_that_are_there_and_says_so(gpus, line, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
    assert selftest.describe_devices() == line
    runs = []
    monkeypatch.setattr(selftest, "_run", lambda *words: runs.append(words))
    monkeypatch.setattr(selftest, "_loss_difference", lambda *_: 0.0)
    selftest.measure_two_processes("ddp")
    two, one = runs
    assert two == ("ddp", "trainer.devices=2", "trainer.strategy=ddp", *words)
    assert one == ("one_batch_on_cpu" if words else "one_batch", *words)
    assert "trainer.deterministic=true" in selftest.TINY
