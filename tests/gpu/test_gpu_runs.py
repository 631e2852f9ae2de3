"""Whole runs on a GPU, each in a process of its own; skipped on a machine without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import GPUS, command, end_when, likeness

from gptexp.runs.run_folder import RunFolder, find_run

pytestmark = pytest.mark.skipif(not GPUS, reason="needs an NVIDIA GPU")


@pytest.fixture
def gpu_words(pairs_words):
    words = [word for word in pairs_words if "accelerator" not in word and "precision" not in word]
    return [*words, "trainer.accelerator=gpu", "optim=adamw"]


def run_on_gpus(*words, outputs="outputs", gpus=GPUS, code=0):
    """Run a command on some of the GPUs; return its folder and its messages."""
    process = command(*words, f"outputs={outputs}", CUDA_VISIBLE_DEVICES=",".join(gpus))
    _, output = process.communicate(timeout=300)
    assert process.returncode == code, output
    assert "Traceback" not in output
    return (find_run("latest", Path(outputs)) if code == 0 else None), output


def losses(folder: RunFolder) -> list[float]:
    return [row["train/loss"] for row in folder.metrics()]


def test_a_run_is_evaluated_and_answers_on_the_gpu(gpu_words):
    folder, _ = run_on_gpus(*gpu_words, "trainer.precision=auto")
    assert folder.result()["precision"] == "bf16-mixed"
    for module, *words in (("evaluate",), ("generate", "a river falls")):
        done = subprocess.run(
            [sys.executable, "-m", f"gptexp.{module}", str(folder.path), *words],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": GPUS[0]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "more",
    [["trainer.strategy=fsdp", "trainer.micro_batch_size=4"], ["trainer.compile=true"]],
    ids=str,
)
def test_sharded_and_compiled_runs_compute_what_a_plain_one_does(more, gpu_words):
    plain, _ = run_on_gpus(*gpu_words, "trainer.precision=32", outputs="plain")
    other, _ = run_on_gpus(*gpu_words, "trainer.precision=32", *more, outputs="other")
    assert losses(other) == pytest.approx(losses(plain), abs=1e-4)


def test_a_killed_run_resumes_to_the_bit_with_deterministic_kernels(gpu_words):
    words = [*gpu_words, "trainer.deterministic=true", "model.dropout=0.1", "trainer.log_every=1"]
    uninterrupted, _ = run_on_gpus(*words, outputs="uninterrupted")
    process = command(*words, "outputs=killed", CUDA_VISIBLE_DEVICES=GPUS[0])
    folder = RunFolder(Path("killed") / uninterrupted.name)
    end_when(process, lambda: any(row["step"] >= 5 for row in folder.metrics()))
    resumed, _ = run_on_gpus(*words, outputs="killed")
    assert likeness(resumed) == likeness(uninterrupted)


def test_more_processes_than_gpus_are_refused_in_one_line(gpu_words):
    _, output = run_on_gpus(*gpu_words, "trainer.devices=2", gpus=GPUS[:1], code=2)
    assert "trainer.devices=2: torch finds 1 GPU here" in output


def test_two_processes_of_torchrun_on_one_gpu_are_refused(gpu_words):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*torchrun, "-m", "gptexp.run", *gpu_words],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": GPUS[0]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "ranks 0 and 1 of 2 have the same GPU" in done.stderr


@pytest.mark.skipif(len(GPUS) < 2, reason="needs two GPUs")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_gpus_train_as_one(strategy, gpu_words):
    words = [*gpu_words, "trainer.precision=32", "trainer.micro_batch_size=2"]
    one, _ = run_on_gpus(*words, outputs="one")
    two, _ = run_on_gpus(*words, "trainer.devices=2", f"trainer.strategy={strategy}", outputs="two")
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
