"""A thread writes a checkpoint while training goes on."""

import errno
import os
import threading
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from gptexp.checkpoints import checkpointer as checkpointer_module
from gptexp.checkpoints.checkpoint import Checkpoint
from gptexp.checkpoints.checkpointer import Checkpointer
from gptexp.checkpoints.optimizer_state import OptimizerState
from gptexp.distributed import sharding
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import RunError


class Training:
    """A model, its optimizer and their checkpoints; weights and momentum change in each step."""

    def __init__(self, folder, process_group=ProcessGroup(), sharded=False, mesh=None):  # noqa: B008 (frozen)
        torch.manual_seed(0)
        self.model = torch.nn.Linear(3, 5)
        if mesh:
            fully_shard(self.model, mesh=mesh)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9)
        self.state = OptimizerState(self.model, [self.optimizer])
        self.checkpointer = Checkpointer(folder, process_group, 2, sharded)
        self.step = 0

    def train(self):
        self.model(torch.ones(1, 3)).square().sum().backward()
        self.optimizer.step()
        self.step += 1

    def save(self, callbacks=None):
        self.checkpointer.save(self.model, self.state, {"step": self.step}, {}, callbacks)

    def read(self):
        """Return copies of the tensors that a checkpoint holds, by file."""
        named = {"model": dict(self.model.named_parameters())}
        named["optimizer"] = self.state.encode().tensors
        return {
            kind: {k: sharding.full_tensor(v.detach()).clone() for k, v in tensors.items()}
            for kind, tensors in named.items()
        }


def assert_holds(folder, step, tensors):
    checkpoint = Checkpoint(folder / f"step-{step:06d}")
    checkpoint.verify()
    for kind, expected in tensors.items():
        stored = {
            name: tensor.read_all()
            for name, tensor in sharding.open_tensors(checkpoint.path, kind).items()
        }
        assert stored.keys() == expected.keys()
        assert all(torch.equal(stored[name], expected[name]) for name in expected)


@pytest.fixture
def writes(monkeypatch):
    """An event without which no file is written, nor the test stopped for ever."""
    event, plain = threading.Event(), checkpointer_module.save_file
    monkeypatch.setattr(
        checkpointer_module, "save_file", lambda *args: (event.wait(60), plain(*args))
    )
    yield event
    event.set()


def test_a_checkpoint_holds_the_step_of_its_save_and_replaces_the_one_before_when_complete(
    tmp_path, writes
):
    training = Training(tmp_path)
    writes.set()
    training.train()
    training.save()
    training.checkpointer.finish()
    writes.clear()
    training.train()
    mean = torch.ones(2)
    training.save({"Mean": {"mean": mean}})
    expected = training.read()
    training.train()
    mean += 1
    assert training.checkpointer.is_writing
    assert (tmp_path / "last").read_text() == "step-000001\n"
    assert Checkpointer(tmp_path, ProcessGroup()).find_complete().path.name == "step-000001"
    writes.set()
    training.checkpointer.finish()
    assert not training.checkpointer.is_writing
    assert (tmp_path / "last").read_text() == "step-000002\n"
    assert_holds(tmp_path, 2, expected)
    stored = Checkpoint(tmp_path / "step-000002").load_callbacks()
    assert torch.equal(stored["Mean"]["mean"], torch.ones(2))


def test_the_next_save_waits_for_the_one_before(tmp_path, writes, monkeypatch):
    monkeypatch.setattr(checkpointer_module, "WAIT_SECONDS", 0.01)
    training = Training(tmp_path)
    training.train()
    training.save()
    threading.Timer(0.1, writes.set).start()
    training.train()
    training.save()
    assert Checkpoint(tmp_path / "step-000001").manifest["step"] == 1
    training.checkpointer.finish()


def test_copies_share_their_memory_until_the_end(tmp_path):
    training = Training(tmp_path)
    addresses = set()
    for _ in range(2):
        training.train()
        training.save()
        addresses.add(
            training.checkpointer.buffers["optimizer"]["0/weight/momentum_buffer"].data_ptr()
        )
    assert len(addresses) == 1
    training.checkpointer.close()
    assert not training.checkpointer.buffers
    assert_holds(tmp_path, 2, training.read())


def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("ends_with", ["save", "finish"])
def test_an_error_of_the_thread_is_raised_once(ends_with, tmp_path, monkeypatch, capsys):
    training = Training(tmp_path)
    training.train()
    training.save()
    training.checkpointer.finish()
    training.train()
    monkeypatch.setattr(checkpointer_module, "save_file", fail)
    training.save()
    with pytest.raises(RunError, match=r"No space left.*step-000001 is complete\. Free some space"):
        training.save() if ends_with == "save" else training.checkpointer.finish()
    training.checkpointer.wait()
    training.checkpointer.finish()
    assert not capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["step-000001"]


def test_a_rank_that_fails_waits_for_its_thread_and_reports_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpointer_module, "save_file", fail)
    training = Training(tmp_path)
    training.train()
    training.save()
    training.checkpointer.wait()
    assert "the checkpoint of step 1 is not saved: [Errno 28]" in capsys.readouterr().err


def test_without_memory_for_a_copy_it_is_written_at_once(tmp_path, monkeypatch, capsys):
    for folder, available in (("copied", 10_000), ("in_place", 300)):
        monkeypatch.setattr(checkpointer_module, "available_memory", lambda size=available: size)
        training = Training(tmp_path / folder)
        for _ in range(2):
            training.train()
            training.save()
        assert training.checkpointer.writing is None or folder == "copied"
        training.checkpointer.finish()
    message = "a copy of a checkpoint takes 0.0 GB of memory, and 0.0 GB are available"
    assert capsys.readouterr().err.count(message) == 1
    for name in ("model.safetensors", "optimizer.safetensors", "manifest.json"):
        one, two = (tmp_path / folder / "step-000002" / name for folder in ("copied", "in_place"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("is_rank_zero", [True, False])
def test_rank_zero_alone_says_that_a_rank_lacks_memory(is_rank_zero, tmp_path, capsys):
    process_group = SimpleNamespace(
        is_rank_zero=is_rank_zero, local_size=2, all_gather=lambda own: [own, "rank 1 has none"]
    )
    checkpointer = checkpointer_module.Checkpointer(tmp_path, process_group)
    assert not checkpointer._has_memory_for({"model": {"weight": torch.zeros(2)}})
    assert capsys.readouterr().err == ("rank 1 has none\n" if is_rank_zero else "")


def test_what_a_killed_process_left_is_removed(tmp_path):
    leftover = tmp_path / ".step-000007.tmp"
    leftover.mkdir()
    training = Training(tmp_path)
    training.train()
    training.save()
    training.checkpointer.finish()
    assert not leftover.exists()


def save_on_rank(rank, file, folder, sharded):
    """Two ranks save two checkpoints; the thread of one rank cannot write the second."""
    torch.set_num_threads(1)  # those of the parent do not survive a fork
    dist.init_process_group("gloo", f"file://{file}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    group = ProcessGroup(rank, 2, rank, 2)
    checkpointer_module.WAIT_SECONDS = 0.001
    failing = 1 if sharded else 0
    for memory in (0, 10_000):
        checkpointer_module.available_memory = lambda size=memory: size
        training = Training(folder / str(memory), group, sharded, mesh)
        training.train()
        training.save()
        expected = training.read()
        training.train()
        training.checkpointer.finish()
        assert_holds(folder / str(memory), 1, expected)
        plain = checkpointer_module.save_file
        if rank == failing:
            checkpointer_module.save_file = fail
        try:
            training.save()
            assert memory
            training.checkpointer.finish()
        except RunError as error:
            (folder / f"{memory}-{rank}").write_text(str(error))
        checkpointer_module.save_file = plain
        dist.barrier()
    dist.barrier()
    os._exit(0)


@pytest.mark.parametrize("sharded", [False, True])
def test_ranks_save_together_and_fail_together(sharded, tmp_path):
    arguments = (tmp_path / "store", tmp_path, sharded)
    mp.start_processes(save_on_rank, arguments, 2, start_method="fork")
    for memory in (0, 10_000):
        messages = {(tmp_path / f"{memory}-{rank}").read_text() for rank in range(2)}
        assert len(messages) == 1
        assert "step-000001 is complete" in messages.pop()
        assert not list((tmp_path / str(memory)).glob(".*"))
