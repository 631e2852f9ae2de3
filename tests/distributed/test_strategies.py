import os
from contextlib import nullcontext
from types import SimpleNamespace

import lightning as L
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp._fully_shard import _fsdp_param_group

from gptexp.config.schema import TrainerConfig
from gptexp.distributed.devices import lightning_devices
from gptexp.distributed.process_group import ProcessGroup
from gptexp.distributed.sharding import full_tensor
from gptexp.distributed.strategies import (
    LaunchedProcesses,
    can_hold_full_gradients,
    can_hold_model,
    keep_full_gradients,
    lightning_strategy,
    shard_model,
)
from gptexp.model import Transformer, TransformerConfig


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_lightning_takes_the_rank_of_torchrun_under_srun_and_one_device(strategy, monkeypatch):
    """`srun torchrun` with 4 processes on each of 2 machines: SLURM knows one task a machine."""
    slurm = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in {**slurm, **address, "RANK": "5", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    group = ProcessGroup(5, 8, 1, 4)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=lightning_devices(torch.device("cpu")),
        strategy=lightning_strategy(TrainerConfig(strategy=strategy), group),
        plugins=[LaunchedProcesses(group)],
        logger=False,
        enable_checkpointing=False,
    )
    assert (trainer.global_rank, trainer.world_size, trainer.node_rank) == (5, 8, 1)
    assert trainer.strategy.root_device == torch.device("cpu")


def test_lightning_gets_the_gpu_that_the_process_uses(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert lightning_devices(torch.device("cuda")) == [3]


def accumulate_on_rank(rank, file, folder):
    """Two micro-batches on one of two ranks, with and without an exchange after the first."""
    torch.set_num_threads(1)  # those of the parent do not survive a fork
    dist.init_process_group("gloo", f"file://{file}", rank=rank, world_size=2)
    torch.manual_seed(0)
    tokens = torch.randint(50, (2, 2, 8))
    reduced, gradients = [], []
    plain = _fsdp_param_group.foreach_reduce
    _fsdp_param_group.foreach_reduce = lambda *args: (reduced.append(1), plain(*args))[1]
    for context in (nullcontext, keep_full_gradients):
        torch.manual_seed(1)
        model = Transformer(
            TransformerConfig(
                vocab_size=50, layers=1, d_model=32, heads=2, kv_heads=2, d_ff=64, context=8
            )
        )
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
        mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("data_parallel",))
        shard_model(model, mesh, TrainerConfig(strategy="fsdp"))
        assert can_hold_full_gradients(model, torch.device("cpu"), ProcessGroup())
        reduced.clear()
        with context(model) if context is keep_full_gradients else context():
            model(tokens[rank]).square().mean().backward()
        after_first = len(reduced)
        model(tokens[1 - rank]).square().mean().backward()
        gradients.append([full_tensor(p.grad) for p in model.parameters()])
        (folder / f"{context.__name__}-{rank}").write_text(f"{after_first} {len(reduced)}")
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    dist.barrier()
    os._exit(0)


def test_sharded_ranks_exchange_gradients_once_a_step(tmp_path):
    arguments = (tmp_path / "store", tmp_path)
    mp.start_processes(accumulate_on_rank, arguments, 2, start_method="fork")
    for rank in range(2):
        assert (tmp_path / f"nullcontext-{rank}").read_text() == "2 4"  # the block, and the rest
        assert (tmp_path / f"keep_full_gradients-{rank}").read_text() == "0 2"


def test_full_gradients_are_kept_where_they_take_a_small_part_of_every_gpu(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=4000)
    )
    device = torch.device("cuda")
    small, large = torch.nn.Linear(10, 10, bias=False), torch.nn.Linear(11, 10, bias=False)
    assert can_hold_full_gradients(small, device, ProcessGroup())
    assert not can_hold_full_gradients(large, device, ProcessGroup())
    others = SimpleNamespace(all_gather=lambda memory: [memory, 3999])
    assert not can_hold_full_gradients(small, device, others)


def test_a_model_is_held_where_it_takes_a_part_of_the_memory_of_every_rank():
    model, device = torch.nn.Linear(10, 30, bias=False), torch.device("cpu")
    assert can_hold_model(model, device, ProcessGroup())
    for least, fits in (4000, True), (3999, False):
        ranks = SimpleNamespace(
            local_size=1, all_gather=lambda memory, other=least: [memory, other]
        )
        assert can_hold_model(model, device, ranks) == fits
