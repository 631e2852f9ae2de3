"""What stops a run before its weights are harmed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import command

from gptexp.config.errors import RunError
from gptexp.model import Transformer
from gptexp.replay import changed
from gptexp.reporting.record import RunFolder, find_run
from gptexp.run import run
from gptexp.training import checkpoint

# Read by every Python process that finds it on its path: a loss that is not finite in one step of training.
BROKEN = """
import importlib.machinery, sys
class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        if name != "gptexp.training.module":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), patch(module))
        return spec
def patch(module):
    plain, seed_step, now = module.Transformer.loss, module.seed_step, [None]
    def remember(seed, step, rank):
        now[0] = step
        seed_step(seed, step, rank)
    def loss(self, **inputs):
        factor = float("nan") if self.training and now[0] == 6 else 1.0
        return tuple(part * factor for part in plain(self, **inputs))
    module.seed_step, module.Transformer.loss = remember, loss
sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize("more", [[], ["trainer.devices=2"], ["trainer.devices=2", "trainer.strategy=fsdp"]], ids=len)
def test_a_nan_stops_before_the_update_and_replay_shows_it(more, pairs_words, translation, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BROKEN)
    environment = {"PYTHONPATH": str(tmp_path / "site")}
    constant = ["optim=adamw", "optim.schedule=constant", "optim.warmup=0"]
    process = command(*pairs_words, *constant, *more, **environment)
    _, said = process.communicate()
    assert process.returncode == 1, said
    assert said.count("step 6: the loss is not finite") == 1
    assert "Traceback" not in said
    folder = find_run("latest")
    crash = folder.read("crash")
    assert crash["step"] == 6
    assert sum(map(len, crash["examples"])) == 8
    before = run(translation(*constant, "trainer.max_steps=6", "outputs=six", *more))
    files = [f.checkpoints / "step-000006" / "model.safetensors" for f in (folder, before)]
    assert files[0].read_bytes() == files[1].read_bytes()

    def replay(*words):
        words = [sys.executable, "-m", "gptexp.replay", str(folder.path), *words]
        return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **environment})

    assert "loss nan" in replay().stdout
    done = replay("--skip")
    assert done.returncode == 0, done.stderr
    assert find_run("latest").result()["status"] == "finished"


def test_out_of_memory_halves_the_micro_batch_and_changes_nothing_else(translation, monkeypatch, capsys):
    plain = run(translation("outputs=plain", "optim=adamw"))
    loss = Transformer.loss

    def needs_memory(self, **inputs):
        if self.training and len(inputs["tokens"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, **inputs)

    monkeypatch.setattr(Transformer, "loss", needs_memory)
    folder = run(translation("outputs=small", "optim=adamw"))
    said = capsys.readouterr().err
    assert "out of memory with 8 sequences at once; now 4, the global batch stays" in said
    assert "now 2" in said
    for a, b in zip(plain.metrics(), folder.metrics(), strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], abs=1e-5)
        assert a["tokens"] == b["tokens"]
    monkeypatch.setattr(Transformer, "loss", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError("x")))
    with pytest.raises(RunError, match="one sequence at a time"):
        run(translation("outputs=none"))


def test_a_rank_that_dies_ends_the_others_and_is_named_once(pairs_words, tmp_path):
    (tmp_path / "site").mkdir()
    dies = BROKEN.replace('float("nan") if', "1 / 0 if __import__('os').environ.get('RANK') == '1' and")
    (tmp_path / "site" / "sitecustomize.py").write_text(dies)
    process = command(*pairs_words, "trainer.devices=2", PYTHONPATH=str(tmp_path / "site"))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.count("Traceback") == 1, said
    assert "rank 1 failed first" in said
    assert "ZeroDivisionError" in said
    assert json.loads((find_run("latest").path / "result.json").read_text())["status"] in ("failed", "running")
    assert checkpoint.newest_whole(find_run("latest").checkpoints).name == "step-000004"


def test_replay_goes_on_with_the_run_and_not_with_what_it_started_from(translation):
    config = replace(translation(), init="base")
    went_on = changed(config, RunFolder(Path("outputs/x")), skip=3, lr_factor=None)
    assert (went_on.init, went_on.resume, went_on.trainer.skip_steps) == (None, "outputs/x", [3])
