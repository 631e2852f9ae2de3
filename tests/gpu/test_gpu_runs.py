"""Whole runs on a GPU, each in a process of its own; skipped on a machine without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import GPUS, ON_IMPORT, TINY, TRAIN, command, end_when, likeness

from gptexp.runs.run_folder import RunFolder, find_run

pytestmark = pytest.mark.skipif(not GPUS, reason="needs an NVIDIA GPU")


@pytest.fixture
def gpu_words(pairs_words):
    words = [word for word in pairs_words if "accelerator" not in word and "precision" not in word]
    return [*words, "trainer.accelerator=gpu", "optim=adamw"]


@pytest.fixture
def gpu_text_words(text_file):
    train = [word for word in TRAIN if "accelerator" not in word and "precision" not in word]
    data = ["data=files", f"data.path={text_file}", "data.split=tail"]
    return [*TINY, *data, *train, "trainer.accelerator=gpu", "optim=adamw"]


@pytest.fixture
def patched(own_folder, monkeypatch):
    """Change a module of the processes that the test starts from now on."""

    def patch(module: str, statement: str) -> None:
        program = f"MODULE = {module!r}\n{ON_IMPORT}\ndef patch(module):\n    {statement}\n"
        (own_folder / "patched").mkdir()
        (own_folder / "patched" / "sitecustomize.py").write_text(program)
        monkeypatch.setenv("PYTHONPATH", str(own_folder / "patched"), prepend=os.pathsep)

    return patch


def run_on_gpus(*words, outputs="outputs", gpus=GPUS, code=0):
    """Run a command on some of the GPUs; return its folder and its messages."""
    process = command(*words, f"outputs={outputs}", CUDA_VISIBLE_DEVICES=",".join(gpus))
    _, output = process.communicate(timeout=300)
    assert process.returncode == code, output
    assert "Traceback" not in output
    return (find_run("latest", Path(outputs)) if code == 0 else None), output


def losses(folder: RunFolder) -> list[float]:
    return [row["train/loss"] for row in folder.metrics()]


@pytest.mark.parametrize(
    "more", [[], ["trainer.deterministic=true", "task.mbr_samples=4"]], ids=str
)
def test_a_run_is_evaluated_and_answers_on_the_gpu(more, gpu_words):
    folder, _ = run_on_gpus(*gpu_words, "trainer.precision=auto", *more)
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
    "more", [[], ["trainer.reshard_after_forward=false"], ["trainer.cpu_offload=true"]], ids=str
)
def test_a_sharded_run_computes_what_a_plain_one_does(more, gpu_words):
    words = [*gpu_words, "trainer.precision=32", "trainer.micro_batch_size=4"]
    plain, _ = run_on_gpus(*words, outputs="plain")
    sharded, _ = run_on_gpus(*words, "trainer.strategy=fsdp", *more, outputs="sharded")
    assert losses(sharded) == pytest.approx(losses(plain), abs=1e-4)


def test_a_model_that_is_evaluated_in_shards_answers_as_a_whole_one(gpu_words, patched):
    words = [*gpu_words, "trainer.precision=32", "trainer.strategy=fsdp"]
    whole, _ = run_on_gpus(*words, outputs="whole")
    patched("gptexp.distributed.strategies", "module.MAX_FULL_MODEL = 0")
    sharded, _ = run_on_gpus(*words, outputs="sharded")
    assert sharded.result()["metrics"] == pytest.approx(whole.result()["metrics"], rel=1e-4)
    assert sharded.samples() == whole.samples()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_checkpoints_are_copied_exactly_while_training_goes_on(strategy, gpu_words, patched):
    words = [*gpu_words, "trainer.deterministic=true", f"trainer.strategy={strategy}"]
    words += ["trainer.checkpoint_every=3", "trainer.keep_checkpoints=9"]
    copied, _ = run_on_gpus(*words, outputs="copied")
    patched(
        "gptexp.checkpoints.checkpointer",
        "module.Checkpointer._has_memory_for = lambda self, tensors: False",
    )
    written, _ = run_on_gpus(*words, outputs="written")
    for name in ("step-000003", "step-000006", "step-000009"):
        for kind in ("model.safetensors", "optimizer.safetensors"):
            one, other = (run.checkpoints / name / kind for run in (copied, written))
            assert one.read_bytes() == other.read_bytes(), (name, kind)


@pytest.mark.parametrize("kind", ["selective", "full"])
def test_recomputed_activations_are_those_of_the_forward_pass_to_the_bit(kind, gpu_words):
    words = [*gpu_words, "trainer.deterministic=true", "model.dropout=0.1"]
    kept, _ = run_on_gpus(*words, outputs="kept")
    recomputed, _ = run_on_gpus(
        *words, f"trainer.activation_checkpointing={kind}", outputs="recomputed"
    )
    assert losses(recomputed) == losses(kept)


def test_a_batch_that_does_not_fit_is_computed_in_parts(gpu_text_words, patched):
    shape = ["task=pretrain", "model.d_model=256", "model.context=256", "trainer.precision=32"]
    words = [*gpu_text_words, *shape, "trainer.global_batch_size=512", "trainer.max_steps=2"]
    parts, _ = run_on_gpus(*words, "trainer.micro_batch_size=16", outputs="parts")
    patched(
        "gptexp.training.module",
        "import torch; torch.cuda.set_per_process_memory_fraction("
        "1.5e9 / torch.cuda.get_device_properties(0).total_memory)",
    )
    halved, output = run_on_gpus(*words, outputs="halved")
    assert "out of memory with 512 sequences at once" in output
    assert losses(halved) == pytest.approx(losses(parts), abs=1e-4)


def compare_compiled_with_plain(*words: str) -> None:
    words = [*words, "trainer.precision=32", "model.context=256"]
    plain, _ = run_on_gpus(*words, "trainer.compile=false", outputs="plain")
    compiled, _ = run_on_gpus(*words, "trainer.compile=true", outputs="compiled")
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-4)
    assert "speed/compiled_graphs" in compiled.metrics()[-1]


@pytest.mark.parametrize(
    "more",
    [
        ["task=pretrain", "model.preset=gpt2"],
        ["task=pretrain", "task.document_mask=true"],
        ["task=pretrain", "model.window=64", "model.window_pattern=SL"],
        ["task=pretrain", "trainer.strategy=fsdp"],
        ["task=mlm"],
    ],
    ids=str,
)
def test_a_compiled_run_over_texts_computes_what_a_plain_one_does(more, gpu_text_words):
    compare_compiled_with_plain(*gpu_text_words, *more)


@pytest.mark.parametrize("arch", ["decoder", "prefix", "encoder_decoder"])
def test_a_compiled_run_over_pairs_computes_what_a_plain_one_does(arch, gpu_words):
    compare_compiled_with_plain(*gpu_words, f"model.arch={arch}")


@pytest.mark.parametrize(
    "more",
    [["model.dropout=0.2"], ["trainer.micro_batch_size=2"], ["task.document_mask=true"]],
    ids=str,
)
def test_a_small_model_that_is_replayed_as_graphs_trains_as_one_that_is_not(more, gpu_text_words):
    words = [*gpu_text_words, "task=pretrain", "trainer.precision=32"]
    plain, _ = run_on_gpus(*words, *more, "trainer.compile=false", outputs="plain")
    replayed, output = run_on_gpus(*words, *more, outputs="replayed")
    assert losses(replayed) == pytest.approx(losses(plain), abs=1e-4)
    assert "without CUDA graphs" not in output


def test_torch_compile_is_tried_on_the_gpu():
    command = [sys.executable, "-m", "gptexp.distributed.compiler", "gpu"]
    done = subprocess.run(
        command,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": GPUS[0]},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("compiles", ["false", "true"])
def test_a_killed_run_resumes_to_the_bit_with_deterministic_kernels(compiles, gpu_words):
    words = [*gpu_words, "trainer.deterministic=true", "model.dropout=0.1", "trainer.log_every=1"]
    words += [f"trainer.compile={compiles}", "optim=muon"]
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
@pytest.mark.parametrize(
    "more",
    [
        ["trainer.strategy=ddp", "optim=muon"],
        ["trainer.strategy=fsdp", "optim=muon"],
        ["trainer.strategy=fsdp", "trainer.tensor_parallel=2"],
        ["trainer.strategy=fsdp", "trainer.context_parallel=2"],
    ],
    ids=str,
)
def test_two_gpus_train_as_one(more, gpu_text_words):
    words = [*gpu_text_words, "task=pretrain", "trainer.precision=32", "trainer.micro_batch_size=2"]
    words += [word for word in more if word.startswith("optim")]
    one, _ = run_on_gpus(*words, outputs="one")
    two, _ = run_on_gpus(*words, "trainer.devices=2", *more, outputs="two")
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
