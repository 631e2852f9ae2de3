import os
import signal
import sys
import time

import pytest
import torch
import torch.multiprocessing as mp

from gptexp.distributed import failure_watch
from gptexp.distributed.launcher import _free_port
from gptexp.distributed.process_group import ProcessGroup


def run_rank(rank, port, folder, event):
    """Rank zero fails, and rank one waits, as in a collective of which another takes no part."""
    os.environ |= {"RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    output = sys.stderr = (folder / str(rank)).open("w", buffering=1)
    group = ProcessGroup(rank, 2, rank, 2)
    group.init(torch.device("cpu"))
    try:
        with failure_watch.watch_failures(group, "first", output.write):
            group.barrier()  # all ranks watch
            if rank == 1 and event != "nothing":
                time.sleep(60)
            if event == "error":
                raise ValueError("bad")
            if event == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        output.write("end\n")
    finally:
        os._exit(0)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("error", "rank 0 failed: ValueError('bad')"),
        ("kill", "the connection to rank zero is lost"),
        ("nothing", None),
    ],
)
def test_a_rank_that_waits_for_one_that_failed_ends_with_the_reason(
    event, reason, tmp_path, monkeypatch
):
    monkeypatch.setattr(failure_watch, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(failure_watch, "GRACE_SECONDS", 0.2)
    ranks = mp.start_processes(
        run_rank, (_free_port(), tmp_path, event), 2, join=False, start_method="fork"
    ).processes
    for rank in ranks:
        rank.join(50)
    expected = f"{reason}gptexp: {reason}; this rank ends, too\n" if reason else "end\n"
    assert (tmp_path / "1").read_text() == expected
    assert ranks[1].exitcode == (1 if reason else 0)
