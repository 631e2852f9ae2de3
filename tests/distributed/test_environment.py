import os

import pytest

from gptexp.distributed.environment import (
    ProcessInfo,
    explain_single_process,
    is_launched,
    is_requeued,
    slurm_main_address,
)
from gptexp.errors import UserError

ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", **ADDRESS}
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
        for name in [name for name in os.environ if name in TORCHRUN or "SLURM" in name]:
            monkeypatch.delenv(name)
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


@pytest.mark.parametrize(
    "change",
    [
        {"RANK": "8"},
        {"RANK": "-1"},
        {"RANK": "first"},
        {"WORLD_SIZE": "0"},
        {"LOCAL_RANK": "4"},
        {"LOCAL_WORLD_SIZE": "9"},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_by_name(change, set_environment):
    set_environment({**TORCHRUN, **change})
    with pytest.raises(UserError, match=f"^{next(iter(change))}=.* unset {next(iter(change))}$"):
        ProcessInfo.from_env()


def test_ranks_without_a_meeting_point_are_refused(set_environment):
    set_environment({**TORCHRUN, "MASTER_PORT": ""})
    with pytest.raises(UserError, match=r"RANK without MASTER_PORT: .*unset RANK WORLD_SIZE"):
        ProcessInfo.from_env()


SHELLS = [{"SLURM_JOB_NAME": "bash"}, {"SLURM_JOB_NAME": "interactive"}, {"SLURM_PTY_PORT": "3333"}]


@pytest.mark.parametrize("shell", SHELLS, ids=str)
def test_a_process_in_an_interactive_shell_of_slurm_is_alone(shell, set_environment):
    """The shell is the task; a process that srun starts from there is a task of its own."""
    set_environment({**SLURM, **shell, "SLURM_TASK_PID": "1"})
    assert ProcessInfo.from_env() == ProcessInfo(0, 1, 0, 1)
    assert not is_launched()
    assert "to use the 8 tasks of the job: srun python" in explain_single_process()
    set_environment({**SLURM, **shell, "SLURM_TASK_PID": str(os.getpid())})
    assert ProcessInfo.from_env().size == 8
    assert explain_single_process() is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu1", "gpu1"), ("gpu[03-05,09],cpu1", "gpu03"), ("rack-2-n[7]", "rack-2-n7"), ("a,b", "a")],
)
def test_slurm_processes_meet_on_the_first_node(nodes, first, set_environment):
    set_environment({"SLURM_NODELIST": nodes, "SLURM_JOB_ID": "1234567"})
    assert slurm_main_address() == (first, "19567")


def test_a_job_that_slurm_starts_again_is_told_apart(set_environment):
    set_environment({})
    assert not is_requeued()
    set_environment({"SLURM_RESTART_COUNT": "2"})
    assert is_requeued()
    set_environment({"SLURM_RESTART_COUNT": "often"})
    with pytest.raises(UserError, match="SLURM_RESTART_COUNT=often in the environment"):
        is_requeued()
