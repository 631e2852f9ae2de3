import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import torch

from gptexp.distributed import process_group
from gptexp.distributed.launcher import _free_port
from gptexp.distributed.process_group import ProcessGroup
from gptexp.errors import UserError


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
