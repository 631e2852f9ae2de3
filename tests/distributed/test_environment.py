import pytest

from gptexp.distributed.environment import ProcessInfo, is_launched
from gptexp.errors import UserError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_STEP_ID", "SLURM_NTASKS")
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}


@pytest.fixture
def set_environment(monkeypatch):
    def set_environment(values):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_environment


@pytest.mark.parametrize("values", [TORCHRUN, SLURM], ids=["torchrun", "slurm"])
def test_launchers_tell_the_rank_and_the_size(values, set_environment):
    set_environment(values)
    info = ProcessInfo.from_env()
    assert (info.rank, info.size, info.local_rank, info.local_size, info.nodes) == (5, 8, 1, 4, 2)
    assert is_launched()
    assert not info.is_rank_zero


def test_a_process_without_a_launcher_is_the_only_one(set_environment):
    set_environment({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "1"})
    assert ProcessInfo.from_env() == ProcessInfo(0, 1, 0, 1)
    assert not is_launched()


def test_half_an_environment_is_refused_with_the_missing_names(set_environment):
    set_environment({"RANK": "0"})
    with pytest.raises(UserError, match=r"RANK without LOCAL_RANK and WORLD_SIZE: .* torchrun"):
        ProcessInfo.from_env()
