"""Whole runs of a few seconds, through the same code as the command."""

import gc
import json
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import lightning as L
import pytest
import torch
from conftest import TINY, TRAIN, likeness, same_weights

from gptexp.checkpoints.load_model import load_run
from gptexp.config import compose
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import Preempted, UserError
from gptexp.run import run
from gptexp.runs.run_folder import find_run
from gptexp.runs.timings import drop_timings
from gptexp.training import fit, garbage

MEASURED = {
    "speed/tokens_per_second",
    "speed/step_ms",
    "speed/tflops_per_device",
    "speed/peak_memory_gib",
    "speed/data_share",
    "speed/validation_share",
    "speed/checkpoint_share",
}


def test_a_run_leaves_a_folder_that_tells_everything(translation):
    folder = run(translation("logger=csv"))
    result = folder.result()
    assert result["status"] == "finished"
    assert {"val/loss", "test/exact_match", "test/baseline/exact_match"} <= set(result["metrics"])
    steps = [row["step"] for row in folder.metrics()]
    assert steps == [2, 4, 6, 8, 10, 12]
    assert all("val/loss" in row for row in folder.metrics() if row["step"] % 4 == 0)
    assert folder.samples()[0].keys() == {"input", "reference", "output"}
    assert folder.read_record("data")["splits"]["train"]["sequences"] > 200
    assert (
        json.loads((folder.path / "environment.json").read_text())["versions"]["torch"]
        == torch.__version__
    )
    assert folder.read_record("environment")["device"]["type"] == "cpu"
    assert set(folder.metrics()[0]) >= MEASURED
    assert (folder.path / "metrics.csv").is_file()
    assert folder.name in folder.report_file.read_text()
    assert [event["status"] for event in folder.history()] == ["running", "finished"]


def test_a_page_that_cannot_be_written_fails_no_run(translation, monkeypatch, capsys):
    def fail(*_):
        raise ValueError("no page today")

    monkeypatch.setattr("gptexp.pages.run_page.write_run_page", fail)
    assert run(translation()).result()["status"] == "finished"
    assert "report.html: was not written (no page today)" in capsys.readouterr().err


def test_the_same_command_again_prints_the_finished_run_and_fresh_puts_it_aside(
    translation, capsys
):
    folder = run(translation())
    written = (folder.path / "result.json").stat().st_mtime_ns
    assert run(translation()).path == folder.path
    assert (folder.path / "result.json").stat().st_mtime_ns == written
    assert capsys.readouterr().out.splitlines()[-1] == str(folder.path)
    again = run(translation("fresh=true"))
    assert again.path == folder.path
    assert folder.path.with_name(folder.path.name + ".1").is_dir()
    assert same_weights(load_run(again)[0], load_run(folder)[0])


def test_a_damaged_best_checkpoint_can_be_got_past(translation):
    folder = run(translation("trainer.checkpoint_every=2", "trainer.keep_checkpoints=9"))
    first, *_, last = sorted(folder.checkpoints.glob("step-*"))
    (folder.checkpoints / "best").write_text(first.name)
    (first / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=f"Delete .*{first.name} to use the last checkpoint"):
        load_run(folder)
    shutil.rmtree(first)
    assert folder.best_checkpoint() == last
    load_run(folder)


def test_data_that_changed_since_is_refused(translation, pairs_file):
    run(translation())
    pairs_file.write_text(pairs_file.read_text().replace("STONE", "PEBBLE"))
    with pytest.raises(UserError, match="data has changed"):
        run(translation())


def test_a_signal_while_data_are_prepared_stops_the_run_and_leaves_no_folder(
    translation, monkeypatch
):
    config = translation()
    monkeypatch.setattr("gptexp.tasks.prepare.prepare", lambda *_: os.kill(os.getpid(), 15))
    with pytest.raises(Preempted, match="SIGTERM"):
        run(config)
    assert not list(Path("outputs").glob("translate-*"))


def test_missing_gpus_are_refused_before_data_are_prepared(translation, monkeypatch):
    monkeypatch.setattr("gptexp.tasks.prepare.prepare", lambda *_: 1 / 0)
    with pytest.raises(UserError, match=r"accelerator=gpu: torch finds no CUDA device"):
        run(translation("trainer.accelerator=gpu"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UserError, match=r"trainer\.devices=2: torch finds 1 GPU here"):
        run(translation("trainer.accelerator=auto", "trainer.devices=2"))


def test_too_few_processes_are_refused_unless_a_launcher_brings_its_own(translation):
    config = translation("trainer.strategy=fsdp", "trainer.tensor_parallel=2")  # as for torchrun
    message = (
        r"trainer\.nodes = 1 must be a multiple of trainer\.tensor.* = 2: use trainer\.devices=2$"
    )
    with pytest.raises(UserError, match=message):
        run(config)
    assert not Path("outputs").exists()


def test_processes_of_torchrun_are_checked_before_the_run_opens(translation, monkeypatch):
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    started = []
    monkeypatch.setattr(ProcessGroup, "init", lambda _, *values: started.append(values))
    monkeypatch.setattr(ProcessGroup, "all_gather", lambda _, value: [value])
    config = translation()
    config.trainer.strategy, config.trainer.cpu_offload = "fsdp", True
    config.trainer.precision = "float8"
    with pytest.raises(UserError, match=r"float8: needs a GPU"):
        run(config)
    assert started == [(torch.device("cpu"), True)]
    config.trainer.global_batch_size = 3
    with pytest.raises(UserError, match=r"global_batch_size=3 must be a multiple of the number"):
        run(config)
    assert len(started) == 1
    assert not Path("outputs").exists()


def test_two_processes_do_not_train_one_run_at_once(translation):
    folder = run(translation("trainer.max_steps=1"))
    (folder.path / "result.json").unlink()
    with folder.lock(), pytest.raises(UserError, match=f"trained by process {os.getpid()}"):
        run(translation("trainer.max_steps=1"))


def interrupted(monkeypatch, config):
    """Train until the tenth step fails."""
    from gptexp.training.module import TrainModule

    step = TrainModule.training_step

    def fails_at_ten(self, *arguments):
        if self.step == 9:
            raise RuntimeError("the machine went away")
        return step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(TrainModule, "training_step", fails_at_ten)
        with pytest.raises(RuntimeError, match="went away"):
            run(config)


def test_an_interrupted_run_goes_on(translation, monkeypatch):
    uninterrupted = run(translation("outputs=uninterrupted"))
    interrupted(monkeypatch, translation())
    folder = run(translation())
    assert [row["train/loss"] for row in folder.metrics()] == [
        row["train/loss"] for row in uninterrupted.metrics()
    ]
    assert folder.result()["metrics"] == uninterrupted.result()["metrics"]


def test_one_batch_can_be_learned_by_heart(tiny, pairs_file):
    lines = pairs_file.read_text().splitlines()
    pairs_file.write_text("\n".join(lines[:4]))
    config = tiny(
        "task=translate",
        "data=files",
        f"data.path={pairs_file}",
        "data.val_fraction=0",
        "data.test_fraction=0",
        "task.max_target_tokens=10",
        "trainer.max_steps=120",
        "trainer.global_batch_size=4",
        "trainer.progress=false",
    )
    losses = [row["train/loss"] for row in run(config).metrics()]
    assert losses[-1] < 0.02 < 1 < losses[0]


def test_micro_batches_change_no_more_than_rounding(translation):
    one = run(translation("optim=adamw", "outputs=one"))
    two = run(translation("optim=adamw", "trainer.micro_batch_size=2", "outputs=two"))
    for a, b in zip(one.metrics(), two.metrics(), strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], abs=1e-5)


def test_init_starts_from_pretrained_weights_and_their_tokenizer(tiny, text_file, translation):
    words = ("task=pretrain", "data=files", f"data.path={text_file}", "tokenizer=byte", *TRAIN)
    base = run(tiny(*words))
    assert (
        base.result()["metrics"]["test/bits_per_byte"]
        < base.result()["metrics"]["test/baseline/bits_per_byte"] * 2
    )
    folder = run(translation(f"init={base.path}", "optim.lr=0", "optim.adamw_lr=0"))
    assert same_weights(load_run(folder)[0], load_run(base)[0])
    with pytest.raises(UserError, match=r"model\.d_model=32, not 48"):
        run(translation(f"init={base.path}", "model.d_model=48"))
    with pytest.raises(UserError, match="not a run folder"):
        run(translation("init=nowhere"))


def test_low_rank_adaptation_changes_what_it_is_for_and_leaves_plain_weights(translation):
    base = run(translation("outputs=base"))
    words = (
        f"init={base.path}",
        "optim=adamw",
        "optim.lora_rank=2",
        "optim.lora_targets=[query,up]",
    )
    folder = run(translation(*words))
    before, after = (load_run(one)[0].state_dict() for one in (base, folder))
    assert before.keys() == after.keys()
    changed = {name.split(".")[-2] for name in before if not before[name].equal(after[name])}
    assert changed == {"query", "up"}
    assert ["flops" in one.metrics()[0] for one in (base, folder)] == [True, False]
    halves = run(translation(*words, "outputs=halves", "trainer.devices=2"))
    for a, b in zip(folder.metrics(), halves.metrics(), strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], abs=1e-5)
    with pytest.raises(UserError, match="adapters need optim=adamw"):
        translation(f"init={base.path}", "optim.lora_rank=2")


@pytest.mark.parametrize("arch", ["prefix", "encoder_decoder"])
def test_text_to_text_works_on_every_architecture(arch, translation):
    folder = run(translation(f"model.arch={arch}", "trainer.max_steps=60", "trainer.val_every=60"))
    losses = [row["train/loss"] for row in folder.metrics()]
    assert losses[-1] < 0.8 * losses[0]
    two = run(
        translation(
            f"model.arch={arch}",
            "optim=adamw",
            "outputs=two",
            "trainer.devices=2",
            "trainer.strategy=fsdp",
        )
    )
    one = run(translation(f"model.arch={arch}", "optim=adamw", "outputs=one"))
    for a, b in zip(one.metrics(), two.metrics(), strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], abs=1e-5)


def assert_same_metrics(one, two, atol):
    for a, b in zip(one.metrics(), two.metrics(), strict=True):
        assert drop_timings(a) == pytest.approx(drop_timings(b), abs=atol)


# Notes each import of a package that Lightning can do without.
NOTE_IMPORTS = """
import sys
class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        if name in ("transformers", "matplotlib", "scipy"):
            open("imported.txt", "a").write(name)
sys.meta_path.insert(0, Finder)
"""


def test_two_processes_train_as_one(translation, tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NOTE_IMPORTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    one = run(translation("optim=adamw", "outputs=one"))
    two = run(translation("optim=adamw", "outputs=two", "trainer.devices=2"))
    assert_same_metrics(one, two, atol=1e-5)
    assert len(list(two.checkpoint().glob("model*"))) == 1
    assert not Path("imported.txt").exists()


def test_two_sharded_processes_train_as_one(bf16_units, translation):
    """Muon orthogonalises in bf16 where the CPU has the units for it, and rounds to 8 bits there."""
    more = [
        "trainer.strategy=fsdp",
        "trainer.sharded_checkpoints=true",
        "trainer.activation_checkpointing=true",
    ]
    one = run(translation("optim=muon", "outputs=one"))
    two = run(translation("optim=muon", "outputs=two", "trainer.devices=2", *more))
    assert_same_metrics(one, two, atol=2e-4 if bf16_units else 1e-5)
    assert len(list(two.checkpoint().glob("model*"))) == 2


def test_experts_train_as_one_on_two_processes(translation):
    experts = ["model.experts=4", "model.balance_loss=0.1", "optim=adamw"]
    one = run(translation(*experts, "outputs=one", "trainer.micro_batch_size=2"))
    for name, more in (
        ("ddp", []),
        ("fsdp", ["trainer.strategy=fsdp", "trainer.activation_checkpointing=true"]),
    ):
        two = run(translation(*experts, f"outputs={name}", "trainer.devices=2", *more))
        assert_same_metrics(one, two, atol=1e-5)
    assert {"train/expert_load", "val/expert_load"} <= one.metrics()[-1].keys()
    assert one.result()["metrics"]["test/expert_load"] >= 1


def test_torchrun_is_joined(pairs_words, translation):
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "gptexp.run",
    ]
    done = subprocess.run(
        [*torchrun, *pairs_words, "optim=adamw"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("samples:") == 1
    joined, alone = find_run("latest"), run(translation("optim=adamw", "outputs=alone"))
    for a, b in zip(joined.metrics(), alone.metrics(), strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], abs=1e-5)


def test_the_commands_work_from_a_shell(pairs_file):
    def verb(name, *words, code=0):
        done = subprocess.run(
            [sys.executable, "-m", f"gptexp.{name}", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    words = [
        *TINY,
        "task=translate",
        "data=files",
        f"data.path={pairs_file}",
        "task.max_target_tokens=10",
        *TRAIN,
    ]
    words += ["logger=wandb", "task.test_examples=5"]
    folders = [
        line
        for line in verb("run", "-m", *words, "seed=1,2").splitlines()
        if line.startswith("outputs/translate-nano-")
    ]
    assert len(set(folders)) == 2
    assert all(
        len(list((pairs_file.parent / folder).glob("wandb/offline-run-*"))) == 1
        for folder in folders
    )
    answer = json.loads(
        verb("generate", "latest", "a green tree", "--num-return-sequences", "2", "--json")
    )
    assert len(answer["outputs"]) == 2
    metrics = json.loads(verb("evaluate", folders[0], "--json"))["metrics"]
    stored = json.loads((pairs_file.parent / folders[0] / "result.json").read_text())["metrics"]
    assert {key: stored[key] for key in metrics} == metrics
    assert "max_new_tokens=99" in verb(
        "generate", folders[0], "x", "--max-new-tokens", "99", code=2
    )
    answer = verb("evaluate", "nothing", code=2)
    assert "not a run folder" in answer
    assert "init=" not in answer
    assert "none.jsonl: no such file" in verb(
        "run", "task=translate", "data=files", "data.path=none.jsonl", code=2
    )
    assert " 0 failed" in verb("check")


@pytest.mark.parametrize("task", ["caption", "speak"])
def test_pictures_and_speech_go_on_and_train_on_two_processes(task, monkeypatch):
    from gptexp.tasks.speech import recognizer

    monkeypatch.setattr(recognizer, "STEPS", 5)
    words = [
        f"task={task}",
        "model=nano",
        "model.layers=2",
        "model.d_model=32",
        "model.heads=2",
        "data.examples=150",
        "task.test_examples=4",
        "optim=adamw",
        "logger=none",
        "model.dropout=0.1",
        *TRAIN,
    ]
    words += ["data.voices=[en-us]"] * (task == "speak")
    one = run(compose.compose_config([*words, "outputs=one"]))
    interrupted(monkeypatch, compose.compose_config(words))
    assert likeness(run(compose.compose_config(words))) == likeness(one)
    plain = [*words, "model.dropout=0"]
    alone = run(compose.compose_config(plain))
    for strategy in ["ddp", "fsdp"][: 2 if task == "speak" else 1]:
        shared = [
            *plain,
            f"outputs={strategy}",
            "trainer.devices=2",
            f"trainer.strategy={strategy}",
        ]
        for a, b in zip(
            alone.metrics(), run(compose.compose_config(shared)).metrics(), strict=True
        ):
            assert a["train/loss"] == pytest.approx(b["train/loss"], abs=1e-5)


def test_on_a_gpu_the_model_of_training_is_freed_before_the_best_one_is_loaded(
    translation, monkeypatch
):
    modules, load_best = [], fit.load_best

    class Watch(L.Callback):
        def on_train_start(self, trainer, module):
            modules.append(weakref.ref(module))

    def load(*arguments):
        assert [module() for module in modules] == [None]
        return load_best(*arguments)

    monkeypatch.setattr(fit, "load_best", load)
    monkeypatch.setattr(fit, "free_memory", lambda _: garbage.free_memory(torch.device("cuda")))
    gc.disable()
    try:
        run(translation("trainer.max_steps=2"), callbacks=[Watch()])
    finally:
        gc.enable()
