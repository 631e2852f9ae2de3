import pytest

from gptexp.distributed import launcher


@pytest.mark.parametrize(
    ("variable", "threads"), [("", 2), ("1", 1), ("2", 2), ("4", 2), ("0", 2), ("4,2", 2)]
)
def test_ranks_have_no_more_threads_than_their_share_of_the_cores(variable, threads, monkeypatch):
    monkeypatch.setattr(launcher, "available_cpus", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert launcher.threads_per_rank(2) == threads
    assert launcher.threads_per_rank(9) == 1
