import json
import os

import pytest

from gptexp.distributed import launcher
from gptexp.errors import Preempted


@pytest.mark.parametrize(
    ("variable", "threads"), [("", 2), ("1", 1), ("2", 2), ("4", 2), ("0", 2), ("4,2", 2)]
)
def test_ranks_have_no_more_threads_than_their_share_of_the_cores(variable, threads, monkeypatch):
    monkeypatch.setattr(launcher, "available_cpus", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert launcher.threads_per_rank(2) == threads
    assert launcher.threads_per_rank(9) == 1


@pytest.mark.parametrize(
    ("written", "reason"), [("now", "missing data after step 3"), ("before", "a signal")]
)
def test_a_stop_has_the_reason_of_rank_zero(written, reason, tmp_path, monkeypatch):
    file = tmp_path / "result.json"

    def run_ranks(*_):
        file.write_text(json.dumps({"status": "stopped", "error": "missing data after step 3"}))
        if written == "before":
            os.utime(file, (1, 1))
        return Preempted.code

    monkeypatch.setattr(launcher, "_run_ranks", run_ranks)
    with pytest.raises(Preempted, match=f"^{reason}$"):
        launcher.launch(tmp_path, 2)
