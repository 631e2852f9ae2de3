"""The pool of processes, with jobs that write a run folder without training."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from gptexp.errors import Preempted, UserError
from gptexp.runs.sweep_folder import JobEntry, SweepFolder
from gptexp.sweeping import slots
from gptexp.sweeping.search_space import read_space
from gptexp.sweeping.slots import Slot, SlotPool, find_slots
from gptexp.sweeping.sweep_plan import SweepPlan, SweepSettings

STUB = [sys.executable, str(Path(__file__).with_name("stub_job.py"))]
POOL = """
import sys
from pathlib import Path
from gptexp.errors import Preempted
from gptexp.runs.sweep_folder import SweepFolder
from gptexp.sweeping.search_space import read_space
from gptexp.sweeping.slots import Slot, SlotPool
from gptexp.sweeping.sweep_plan import SweepPlan, SweepSettings
folder = SweepFolder.create(Path("outputs/sweep"), command=[], keys=["rate"])
plan = SweepPlan(folder, read_space(sys.argv[2:]), SweepSettings())
plan.add_grid()
try:
    SlotPool(plan, [Slot(), Slot()], [sys.executable, sys.argv[1]]).run()
except Preempted:
    sys.exit(75)
"""


def make_pool(*words: str, n_slots: int = 2, **settings) -> SlotPool:
    folder = SweepFolder.create(Path("outputs/sweep"), command=[], keys=["rate"])
    plan = SweepPlan(folder, read_space(words), SweepSettings(**settings))
    plan.add_grid()
    return SlotPool(plan, [Slot() for _ in range(n_slots)], STUB)


def states(folder: SweepFolder) -> dict[str, str]:
    return {job.words[-1].partition("=")[2]: job.state for job in folder.jobs()}


def start_pool(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", POOL, STUB[1], *words])


def wait_for(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it has not happened")


def test_failed_and_killed_jobs_have_a_reason_and_the_rest_goes_on(capfd):
    pool = make_pool("ends=fail,kill,no,crash")
    pool.run()
    jobs = {job.words[0]: job for job in pool.folder.jobs()}
    assert {word: job.state for word, job in jobs.items()} == {
        "ends=fail": "failed",
        "ends=kill": "failed",
        "ends=no": "finished",
        "ends=crash": "failed",
    }
    assert jobs["ends=fail"].reason == "no room\nTraceback"
    assert jobs["ends=kill"].reason == "SIGKILL ended its process"
    lines = capfd.readouterr().err
    assert "starts: ends=fail; its output: outputs/sweep/logs/1.log\n" in lines
    assert "failed after" in lines
    assert lines.count(" s: no room\n") == 1
    assert lines.endswith(" s, as job 1\n")
    assert pool.folder.settings()["primary_metric"] == "test/f1"
    assert Counter(job.code for job in jobs.values()) == {1: 3, 0: 1}


def test_a_hopeless_job_is_pruned_and_goes_on_where_nothing_is_pruned(monkeypatch):
    monkeypatch.setattr(slots, "PRUNE_SECONDS", 0.02)
    words = ("rate=1,1.2,1.1,8",)
    pool = make_pool(*words, prune=True)
    pool.run()
    assert states(pool.folder) == {
        "1": "finished",
        "1.2": "finished",
        "1.1": "finished",
        "8": "pruned",
    }
    reason = pool.folder.jobs()[3].reason
    assert "val/loss 9" in reason
    assert "the best is 1.5" in reason
    starts = Path("outputs/run-rate8/starts.txt")
    make_pool(*words, prune=True).run()
    assert len(starts.read_text().splitlines()) == 1
    make_pool(*words).run()
    assert set(states(pool.folder).values()) == {"finished"}
    assert len(starts.read_text().splitlines()) == 2
    assert len(Path("outputs/run-rate8/metrics.jsonl").read_text().splitlines()) == 9


def test_a_signal_lets_jobs_save_and_the_same_command_continues():
    pool = start_pool("rate=1,2,3", "seconds=20")
    folder = SweepFolder(Path("outputs/sweep"))
    wait_for(lambda: Counter(states(folder).values()) == {"running": 2, "proposed": 1})
    pool.send_signal(signal.SIGTERM)
    assert pool.wait(20) == 75
    assert Counter(states(folder).values()) == {"stopped": 2, "proposed": 1}


def test_jobs_of_a_killed_sweep_stop_and_no_finished_job_is_repeated():
    words = ("rate=1,2,3", "seconds=1.2")
    pool = start_pool(*words)
    folder = SweepFolder(Path("outputs/sweep"))
    wait_for(lambda: states(folder).get("1") == "finished" and states(folder)["3"] == "running")
    pool.kill()
    pool.wait()
    again = make_pool(*words)
    again.run()  # waits for the jobs of the first command, which save and stop
    assert set(states(folder).values()) == {"finished"}
    starts = {n: len(Path(f"outputs/run-rate{n}/starts.txt").read_text().split("\n")) for n in "13"}
    assert starts == {"1": 2, "3": 3}  # lines, and the empty text behind the last


def test_slots_divide_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threes = find_slots(2, devices=1, accelerator="cpu")
    assert [sorted(slot.cpus) for slot in threes] == [[0, 1, 2], [3, 4, 5]]
    assert [slot.environment for slot in threes] == [{"OMP_NUM_THREADS": "3"}] * 2
    assert [slot.cpus for slot in find_slots(8, 1, "cpu")] == [frozenset()] * 8
    assert find_slots(None, 1, "cpu") == [Slot()]


def test_slots_divide_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    visible = [x.environment["CUDA_VISIBLE_DEVICES"] for x in find_slots(None, 2, "auto")]
    assert visible == ["0,1", "2,3"]
    with pytest.raises(
        UserError, match=r"there are 4 GPUs, and a job takes 2; type hydra\.launcher\.slots=2"
    ):
        find_slots(3, 2, "auto")
    assert len(find_slots(3, 2, "cpu")) == 3
    with pytest.raises(UserError, match="must be at least 1"):
        find_slots(0, 1, "cpu")


def test_a_second_interrupt_ends_jobs_at_once():
    pool = make_pool("ends=late", "seconds=30", "rate=1", n_slots=1)

    def interrupt_twice() -> None:
        wait_for(lambda: states(pool.folder).get("1") == "running")
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    thread = threading.Thread(target=interrupt_twice)
    thread.start()
    with pytest.raises(Preempted, match="SIGINT"):
        pool.run()
    thread.join()
    assert states(pool.folder) == {"1": "stopped"}


def test_a_job_that_ends_before_it_reports_has_failed_and_is_not_started_again():
    pool = make_pool("rate=1,2")
    pool.folder.add(JobEntry(1, ["rate=1"], "pruned", reason="no prospect"))
    pool.folder.add(JobEntry(2, ["rate=2"], "stopped", reason="stopped by SIGTERM"))
    pool.command = [sys.executable, "-c", "raise SystemExit(3)"]
    pool.run()
    jobs = pool.folder.jobs()
    assert [(job.state, job.reason.split(";")[0]) for job in jobs] == [
        ("failed", "exit code 3")
    ] * 2


def test_a_signal_reaches_a_job_that_is_being_started(monkeypatch):
    pool = make_pool("rate=1", "seconds=60", n_slots=1)
    claim = pool.plan.claim_next

    def claim_and_signal():
        job = claim()
        os.kill(os.getpid(), signal.SIGTERM)
        return job

    monkeypatch.setattr(pool.plan, "claim_next", claim_and_signal)
    with pytest.raises(Preempted, match="SIGTERM"):
        pool.run()
    assert pool.folder.job(1).state == "stopped"


def test_an_error_of_the_pool_lets_its_jobs_save_and_stop(monkeypatch):
    pool = make_pool("rate=1,2", "seconds=60")
    claim = pool.plan.claim_next

    def claim_one():
        if not pool.running:
            return claim()
        wait_for(lambda: states(pool.folder)["1"] == "running")
        raise UserError("outputs/run-rate1/config.yaml: is damaged")

    monkeypatch.setattr(pool.plan, "claim_next", claim_one)
    with pytest.raises(UserError, match="is damaged"):
        pool.run()
    assert states(pool.folder) == {"1": "stopped", "2": "proposed"}
