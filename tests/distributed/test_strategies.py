import lightning as L
import pytest
import torch

from gptexp.config.schema import TrainerConfig
from gptexp.distributed.devices import lightning_devices
from gptexp.distributed.process_group import ProcessGroup
from gptexp.distributed.strategies import LaunchedProcesses, lightning_strategy


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
