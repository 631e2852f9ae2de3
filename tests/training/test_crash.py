"""What stops a run before its weights are harmed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import BREAK_LOSS, BROKEN, command

import gptexp.replay
import gptexp.training.replay
from gptexp.checkpoints.checkpointer import Checkpointer
from gptexp.distributed import launcher
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import RunError
from gptexp.model import Transformer
from gptexp.replay import config_to_continue
from gptexp.run import run
from gptexp.runs.run_folder import RunFolder, find_run
from gptexp.training import module
from gptexp.training.replay import replay


def break_loss(monkeypatch):
    """Change this process as BROKEN changes others."""
    monkeypatch.setattr(Transformer, "loss", Transformer.loss)
    monkeypatch.setattr(module, "seed_step", module.seed_step)
    names = {}
    exec(BREAK_LOSS, names)
    names["patch"](module)
    monkeypatch.setattr(gptexp.training.replay, "seed_step", module.seed_step)


@pytest.mark.parametrize(
    "more", [[], ["trainer.devices=2"], ["trainer.devices=2", "trainer.strategy=fsdp"]], ids=len
)
def test_a_nan_stops_before_the_update_and_replay_shows_it(
    more, pairs_words, translation, tmp_path, monkeypatch, verb
):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    constant = ["optim=adamw", "schedule=constant", "schedule.warmup_steps=0"]
    process = command(*pairs_words, *constant, *more)
    _, output = process.communicate()
    assert process.returncode == 1, output
    assert output.count("step 6: the loss is not finite") == 1
    assert "Traceback" not in output
    folder = find_run("latest")
    crash = folder.read_record("crash")
    assert crash["step"] == 6
    assert sum(map(len, crash["examples"])) == 8
    before = run(translation(*constant, "trainer.max_steps=6", "outputs=six", *more))
    files = [f.checkpoints / "step-000006" / "model.safetensors" for f in (folder, before)]
    assert files[0].read_bytes() == files[1].read_bytes()

    break_loss(monkeypatch)
    assert "loss nan" in verb(gptexp.replay, folder.path)
    continued = RunFolder(verb(gptexp.replay, folder.path, "--skip").split()[-1])
    assert continued.name != folder.name
    assert continued.result()["status"] == "finished"


def test_out_of_memory_halves_the_micro_batch_and_changes_nothing_else(
    translation, monkeypatch, capsys
):
    plain = run(translation("outputs=plain", "optim=adamw"))
    loss = Transformer.loss

    def needs_memory(self, **inputs):
        if self.training and len(inputs["tokens"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, **inputs)

    monkeypatch.setattr(Transformer, "loss", needs_memory)
    folder = run(translation("outputs=small", "optim=adamw"))
    output = capsys.readouterr().err
    assert "out of memory with 8 sequences at once; now 4, the global batch stays" in output
    assert "now 2" in output
    for a, b in zip(plain.metrics(), folder.metrics(), strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], abs=1e-5)
        assert a["tokens"] == b["tokens"]
    monkeypatch.setattr(
        Transformer, "loss", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError("x"))
    )
    with pytest.raises(RunError, match="one sequence at a time"):
        run(translation("outputs=none"))


def test_a_rank_that_dies_ends_the_others_and_is_named_once(pairs_words, tmp_path):
    (tmp_path / "site").mkdir()
    dies = BROKEN.replace(
        'float("nan") if', "1 / 0 if __import__('os').environ.get('RANK') == '1' and"
    )
    (tmp_path / "site" / "sitecustomize.py").write_text(dies)
    process = command(*pairs_words, "trainer.devices=2", PYTHONPATH=str(tmp_path / "site"))
    _, output = process.communicate(timeout=300)
    assert process.returncode == 1
    assert output.count("Traceback") == 1, output
    assert "rank 1 failed first" in output
    assert "ZeroDivisionError" in output
    assert json.loads((find_run("latest").path / "result.json").read_text())["status"] in (
        "failed",
        "running",
    )
    assert (
        Checkpointer(find_run("latest").checkpoints, ProcessGroup()).latest_valid().path.name
        == "step-000004"
    )


def test_a_rank_without_memory_starts_all_again_with_less(pairs_words, tmp_path):
    (tmp_path / "site").mkdir()
    greedy = BROKEN.replace(
        "        factor",
        """        import os, torch
        if self.training and len(inputs["tokens"]) > 2 and os.environ.get("RANK") == "1":
            raise torch.OutOfMemoryError("CUDA out of memory")
        factor""",
        1,
    ).replace('float("nan")', "1.0")
    (tmp_path / "site" / "sitecustomize.py").write_text(greedy)
    process = command(*pairs_words, "trainer.devices=2", PYTHONPATH=str(tmp_path / "site"))
    _, output = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "starting again from the last checkpoint with smaller micro-batches" in output
    assert find_run("latest").read_record("micro_batch") == {"micro_batch_size": 2}


@pytest.mark.parametrize(
    ("codes", "first"), [((1, 76), 76), ((1, -9), -9), ((0, 3), 3), ((0, 0), 0)]
)
def test_what_memory_did_to_one_rank_counts_before_what_the_others_say(codes, first):
    end = "import os, sys; code = int(sys.argv[1]); os.kill(os.getpid(), -code) if code < 0 else os._exit(code)"
    ranks = [subprocess.Popen([sys.executable, "-c", end, str(code)]) for code in codes]
    for rank in ranks:
        rank.wait()
    assert launcher._wait(ranks) == first


def test_replay_names_each_example_whose_gradient_alone_is_not_finite(translation, monkeypatch):
    folder = run(translation("trainer.max_steps=4"))
    folder.write_record("crash", step=4)
    plain = Transformer.loss

    def bad(self, **inputs):
        sums = plain(self, **inputs)
        if int(inputs["tokens"].sum()) % 2:  # add 0, with a gradient of 0 / 0
            zero = (self.embedding.weight.sum() * 0).sqrt()
            sums = sums._replace(targets=sums.targets + zero)
        return sums

    monkeypatch.setattr(Transformer, "loss", bad)
    result = replay(folder)
    assert result.is_reproduced
    assert 1 < len(result.examples) < 8


def test_replay_goes_on_with_the_run_and_not_with_what_it_started_from(translation):
    config = replace(translation(), init="base")
    went_on = config_to_continue(config, RunFolder(Path("outputs/x")), 3, lr_factor=None)
    assert (went_on.init, went_on.resume, went_on.trainer.skip_steps) == (None, "outputs/x", [3])
