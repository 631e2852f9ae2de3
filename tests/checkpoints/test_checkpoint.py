import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from conftest import same_weights
from safetensors.torch import save_file

from gptexp.checkpoints.checkpoint import Checkpoint, CorruptCheckpointError
from gptexp.checkpoints.checkpointer import Checkpointer
from gptexp.checkpoints.optimizer_state import OptimizerState
from gptexp.distributed import sharding
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import RunError, UserError


class Explosive:
    def __reduce__(self):
        return Path("exploded").write_text, ("x",)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))


@pytest.fixture
def saved(model, tmp_path):
    """Checkpoints of steps 1, 2 and 3; the best is the first."""
    optimizer = torch.optim.AdamW(model.parameters())
    state = OptimizerState(model, [optimizer])
    for step in (1, 2, 3):
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        optimizer.param_groups[0]["updates"] = step
        save(tmp_path, model, step, state, is_best=step == 1)
    return tmp_path


def save(folder, model, step, optimizers=None, callbacks=None, is_best=False):
    state = {"step": step, "tokens": 10 * step, "seconds": 0.5, "metrics": {"val/loss": 1.0}}
    checkpointer = Checkpointer(folder, ProcessGroup(), keep=2)
    optimizers = optimizers or OptimizerState(model, [])
    checkpointer.save(model, optimizers, state, {"data": "x"}, callbacks, is_best)
    checkpointer.finish()


def latest_valid(folder):
    return Checkpointer(folder, ProcessGroup()).latest_valid().path


def test_the_newest_and_the_best_are_kept_and_named(saved):
    assert sorted(path.name for path in saved.glob("step-*")) == [
        "step-000001",
        "step-000002",
        "step-000003",
    ]
    assert (saved / "last").read_text() == "step-000003\n"
    assert (saved / "best").read_text() == "step-000001\n"
    assert {path.suffix for path in saved.rglob("step-*/*")} == {".safetensors", ".json"}


def test_weights_and_optimizer_state_come_back_to_the_bit(saved, model):
    other = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    optimizers = OptimizerState(other, [torch.optim.AdamW(other.parameters())])
    checkpoint = Checkpoint(saved / "step-000003")
    checkpoint.load_weights(other)
    checkpoint.load_optimizers(optimizers)
    assert same_weights(other, model)
    save(saved, other, 4, optimizers)
    for name in ("optimizer.safetensors", "optimizer.json"):
        files = [saved / step / name for step in ("step-000003", "step-000004")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_state_of_callbacks_comes_back(model, tmp_path):
    callbacks = {"Ema{0.9}": {"mean": torch.arange(3.0), "steps": 4, "history": [(1, 0.5)]}}
    save(tmp_path, model, 1, callbacks=callbacks)
    loaded = Checkpoint(latest_valid(tmp_path)).load_callbacks()
    assert torch.equal(loaded["Ema{0.9}"].pop("mean"), torch.arange(3.0))
    assert loaded == {"Ema{0.9}": {"steps": 4, "history": [(1, 0.5)]}}
    with pytest.raises(RunError, match=r"state of a callback .* callbacks/Ema/x is of type object"):
        save(tmp_path, model, 2, callbacks={"Ema": {"x": object()}})
    save(tmp_path, model, 2)
    assert Checkpoint(latest_valid(tmp_path)).load_callbacks() == {}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "flipped": flip,
    "deleted": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "older": lambda path: shutil.copy(path.parent.parent / "step-000002" / path.name, path),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Explosive())),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.safetensors", "optimizer.json", "state.json", "manifest.json"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(saved, name, damage, capsys):
    DAMAGE[damage](saved / "step-000003" / name)
    assert latest_valid(saved).name == "step-000002"
    output = capsys.readouterr().err
    assert "step-000003" in output
    assert (saved / "damaged-step-000003").is_dir()
    assert not Path("exploded").exists()


def test_a_million_steps_sort_after_fewer(saved, model):
    for step in (999_999, 1_000_000, 1_000_001):
        save(saved, model, step)
    assert latest_valid(saved).name == "step-1000001"
    assert {path.name for path in saved.glob("step-*")} == {
        "step-000001",
        "step-1000000",
        "step-1000001",
    }


def test_swapped_folders_are_found_out(saved):
    (saved / "step-000003").rename(saved / "step-000009")
    with pytest.raises(CorruptCheckpointError, match="holds the checkpoint of step 3"):
        Checkpoint(saved / "step-000009").verify()


def test_a_full_disk_leaves_the_one_before(saved, model, monkeypatch):
    usage = shutil.disk_usage(saved)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(
        RunError, match=r"it needs 0\.0 MB, 0\.0 MB are free\)\. step-000003 is complete"
    ):
        save(saved, model, 4)
    assert latest_valid(saved).name == "step-000003"
    assert not list(saved.glob(".step*"))


def test_another_model_is_refused_with_the_difference(saved):
    other = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
    with pytest.raises(UserError, match=r"1\.bias is \(2,\) there, \(3,\) here"):
        Checkpoint(saved / "step-000003").load_weights(other)


def test_shards_of_any_number_of_ranks_are_put_together(tmp_path):
    full = torch.arange(35.0).view(7, 5)
    for rank, (start, end) in enumerate([(0, 3), (3, 6), (6, 7)]):
        positions = {"w": {"shape": [7, 5], "offset": [start, 0]}}
        pieces = {
            "w": full[start:end].contiguous(),
            **({"step": torch.tensor(3.0)} if rank == 0 else {}),
        }
        save_file(
            pieces,
            tmp_path / f"model-{rank + 1:05d}-of-00003.safetensors",
            {"positions": json.dumps(positions)},
        )
    tensors = sharding.open_tensors(tmp_path, "model")
    assert torch.equal(tensors["w"].read_all(), full)
    assert torch.equal(tensors["w"].read((slice(2, 7), slice(1, 3))), full[2:, 1:3])
    assert tensors["step"].read_all() == 3
