import os

import pytest

from gptexp.config.schema import TrainerConfig
from gptexp.distributed.claim_gpus import CLAIM, HELD, claim_gpus
from gptexp.machine import list_gpus


@pytest.fixture
def claim(monkeypatch, tmp_path):
    """A job in a process of its own; the locks of all stay until the test ends."""
    monkeypatch.setenv(CLAIM, "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def claim(gpus, devices=1, is_new_process=True, **settings):
        with monkeypatch.context() as environment:
            if is_new_process:
                environment.delenv(HELD, raising=False)
            environment.setenv("GPTEXP_ALL_GPUS", gpus)
            environment.setenv("CUDA_VISIBLE_DEVICES", "unchanged")
            claim_gpus(TrainerConfig(devices=devices, **settings))
            held = os.environ.get(HELD)
            visible = os.environ["CUDA_VISIBLE_DEVICES"]
        if held:
            os.environ[HELD] = held
        return visible

    yield claim
    os.environ.pop(HELD, None)


def test_each_job_has_its_own_gpu_and_only_more_jobs_than_gpus_share_one(claim):
    assert [claim("a,b,MIG-c/1/0") for _ in range(7)] == ["a", "b", "MIG-c/1/0"] * 2 + ["a"]
    assert claim("a,b,c", devices=2) == "c,b"


def test_a_process_keeps_its_gpu_and_takes_more_for_a_larger_job(claim):
    assert claim("a,b,c") == "a"
    assert claim("a,b,c", is_new_process=False) == "a"
    assert claim("a,b,c", devices=2, is_new_process=False) == "a,b"
    assert claim("a,b,c", is_new_process=False) == "a"
    assert claim("a,b,c") == "c"


def test_nothing_changes_without_gpus_or_without_the_preset(claim, monkeypatch):
    assert claim("") == "unchanged"
    assert claim("a", devices=2) == "unchanged"
    assert claim("a", accelerator="cpu") == "unchanged"
    monkeypatch.delenv(CLAIM)
    assert claim("a") == "unchanged"


@pytest.mark.parametrize(
    ("visible", "gpus"), [("", []), ("-1", []), ("0, 2", ["0", "2"]), (None, ["GPU-1", "GPU-2"])]
)
def test_gpus_are_listed_without_torch(visible, gpus, monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-1; echo GPU-2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list_gpus() == gpus
