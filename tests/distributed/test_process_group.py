import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed import distributed_c10d
from torch.testing._internal.distributed.fake_pg import FakeStore

from gptexp.distributed import process_group
from gptexp.distributed.launcher import _free_port
from gptexp.distributed.process_group import (
    STEP_TIMEOUT,
    ProcessGroup,
    check_distinct_gpus,
    record_collectives,
    use_gpu,
    write_collectives_to,
)
from gptexp.errors import Preempted, RunError, UserError


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_says_at_once_for_whom_it_waits_and_not_for_ever(rank, monkeypatch, capsys):
    monkeypatch.setattr(process_group, "RENDEZVOUS_TIMEOUT", timedelta(seconds=1))
    monkeypatch.setattr(process_group, "SECONDS_BEFORE_LINE", 0.1)
    port = _free_port()
    leftover = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in leftover.items():
        monkeypatch.setenv(name, str(value))
    for name in ("GPTEXP_PARENT", "TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"did not meet at 127\.0\.0\.1:{port}: .* unset RANK"):
        ProcessGroup(rank, 2, rank, 2).init(torch.device("cpu"))
    assert time.monotonic() - start < 10
    assert f"rank {rank} waits at 127.0.0.1:{port}" in capsys.readouterr().err


WAIT = """
import torch
from gptexp.distributed import process_group
from gptexp.distributed.signals import StopSignals
process_group.SECONDS_BEFORE_LINE = 0.1
with StopSignals().handle():
    process_group.ProcessGroup(0, 2, 0, 2).init(torch.device("cpu"))
"""


def test_a_signal_ends_a_process_that_waits():
    leftover = {"RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT], env={**os.environ, **leftover}, stderr=subprocess.PIPE
    )
    with process:
        assert process.stderr.readline().startswith(b"rank 0 waits at 127.0.0.1:")
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("local_rank", "visible", "index"), [(3, 8, 3), (3, 1, 0), (0, 1, 0), (3, 2, 1)]
)
def test_a_process_takes_its_gpu_among_all_of_the_machine_or_the_only_one_that_it_sees(
    local_rank, visible, index, monkeypatch
):
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert use_gpu(local_rank) == torch.device("cuda", index)
    assert chosen == [index]


@pytest.mark.parametrize("rank", [0, 2])
def test_two_processes_on_one_gpu_are_refused_on_every_rank(rank):
    def try_gpus(*gpus):
        store = dist.HashStore()
        for other, gpu in enumerate(gpus):
            store.set(f"gpu of rank {other}", gpu)
        if rank:
            with suppress(UserError):
                check_distinct_gpus(store, ProcessGroup(0, 3, 0, 3), gpus[0])
        check_distinct_gpus(store, ProcessGroup(rank, 3, rank, 3), gpus[rank])

    try_gpus("node1, a", "node1, b", "node2, a")
    with pytest.raises(
        UserError, match=r"ranks 0 and 2 of 3 have the same GPU \(node1, a\): start"
    ):
        try_gpus("node1, a", "node1, b", "node1, a")


def run_and_report(rank, port, folder, body):
    """One of two gloo processes: write what `body` raises to a file."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group = ProcessGroup(rank, 2, rank, 2)
    group.init(torch.device("cpu"))
    for function in body:
        try:
            outcome = repr(function(group))
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
        with (folder / str(rank)).open("a") as out:
            out.write(f"{outcome}\n")
    group.barrier()
    os._exit(0)


def run_two(body, folder):
    mp.start_processes(run_and_report, (_free_port(), folder, body), 2, start_method="fork")
    return [(folder / str(rank)).read_text().splitlines() for rank in range(2)]


def raises(error):
    def fail():
        raise error

    return lambda group: group.broadcast_from_rank_zero(fail)


def fails_on(failing_rank, error):
    def run(group):
        with group.fail_together():
            if group.rank == failing_rank:
                raise error

    return run


def test_a_failure_of_one_rank_is_raised_on_all(tmp_path):
    """None waits for a rank that has failed, whatever its error is."""
    body = [
        lambda group: group.broadcast_from_rank_zero(lambda: group.rank),
        raises(UserError("no such file")),
        raises(PermissionError("tracker")),
        raises(Preempted("SIGTERM")),
        fails_on(1, RunError("no room")),
        fails_on(0, ValueError("bad")),
        fails_on(2, ValueError("never")),
    ]
    zero, one = run_two(body, tmp_path)
    assert zero == [
        "0",
        "UserError: no such file",
        "PermissionError: tracker",
        "Preempted: SIGTERM",
        "RunError: no room",
        "ValueError: bad",
        "None",
    ]
    assert one == [
        "0",
        "UserError: no such file",
        "RunError: rank 0 failed: PermissionError('tracker')",
        "Preempted: SIGTERM",
        "RunError: no room",
        "RunError: rank 0 failed: ValueError('bad')",
        "None",
    ]


RECORDING = ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE", "TORCH_NCCL_DUMP_ON_TIMEOUT")


def test_nccl_records_collectives_in_the_run_folder_unless_the_user_decides(tmp_path, monkeypatch):
    files = ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
    for name in (*RECORDING, *files):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCH_FR_BUFFER_SIZE", "7")
    record_collectives()
    assert [os.environ[name] for name in RECORDING] == ["7", "2000", "1"]
    assert not {*files} & os.environ.keys()
    write_collectives_to(tmp_path)
    assert {os.environ[name] for name in files} == {f"{tmp_path}/nccl_rank_"}


@pytest.mark.parametrize(
    ("cpu_offload", "backend"), [(False, "nccl"), (True, "cpu:gloo,cuda:nccl")]
)
def test_gpus_start_with_nccl_that_records_and_with_gloo_for_weights_of_the_host(
    cpu_offload, backend, monkeypatch
):
    for name in (*RECORDING, "MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.setenv(name, "0")
        if name in RECORDING:
            monkeypatch.delenv(name)
    started = {}

    def start(backend, **_):
        started[backend] = [os.environ.get(name) for name in RECORDING]

    monkeypatch.setattr(dist, "init_process_group", start)
    monkeypatch.setattr(
        process_group, "rendezvous", lambda *_, **__: iter([(dist.HashStore(), 0, 2)])
    )
    monkeypatch.setattr(process_group, "use_gpu", lambda _: torch.device("cuda", 0))
    monkeypatch.setattr(process_group, "describe_gpu", str)
    monkeypatch.setattr(process_group, "check_distinct_gpus", lambda *_: None)
    ProcessGroup(0, 2, 0, 2).init(torch.device("cuda"), cpu_offload)
    assert started == {backend: ["2000", "2000", "1"]}


def test_the_timeout_of_nccl_changes_for_every_group(monkeypatch):
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        dist.new_group([0])
        changed = []
        monkeypatch.setattr(
            distributed_c10d, "_set_pg_timeout", lambda timeout, _: changed.append(timeout)
        )
        group = ProcessGroup(0, 2, 0, 2)
        group.set_timeout(STEP_TIMEOUT)
        assert changed == []
        monkeypatch.setattr(dist, "get_backend_config", lambda: "cpu:gloo,cuda:nccl")
        group.set_timeout(STEP_TIMEOUT)
        assert changed == [STEP_TIMEOUT] * 2
    finally:
        dist.destroy_process_group()
