import json
import multiprocessing
from pathlib import Path

import pytest

from gptexp.errors import UserError
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import JobEntry, SweepFolder, find_sweep


@pytest.fixture
def sweep(tmp_path):
    path = tmp_path / "sweep-lr-0123abcd"
    return SweepFolder.create(path, command=["run", "-m"], keys=["optim.lr"], seeds=[1, 2])


def test_the_newest_state_of_each_job_counts(sweep):
    sweep.add(JobEntry(2, ["optim.lr=0.2"], "proposed"))
    sweep.add(JobEntry(1, ["optim.lr=0.1"], "running", run="run-1"))
    sweep.add(JobEntry(1, ["optim.lr=0.1"], "failed", reason="größer", code=1))
    jobs = sweep.jobs()
    assert [(job.number, job.state, job.run) for job in jobs] == [
        (1, "failed", "run-1"),
        (2, "proposed", None),
    ]
    assert (jobs[0].reason, jobs[0].code) == ("größer", 1)
    assert jobs[0].time
    assert sweep.job(2) == jobs[1]


def test_a_line_that_was_cut_short_costs_only_itself(sweep):
    sweep.add(JobEntry(1, ["seed=1"], "running"))
    with sweep.jobs_file.open("a") as out:
        out.write('{"number": 1, "overrides": ["se')
    sweep.add(JobEntry(2, ["seed=2"], "running"))
    assert [(job.number, job.state) for job in sweep.jobs()] == [(1, "running"), (2, "running")]


def _add_jobs(path: Path, numbers: range) -> None:
    for number in numbers:
        SweepFolder(path).add(JobEntry(number, ["x" * 5000], "running"))


def test_lines_of_several_processes_do_not_mix(sweep):
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_add_jobs, args=(sweep.path, range(20 * start, 20 * start + 20)))
        for start in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [job.number for job in sweep.jobs()] == list(range(60))


def test_jobs_over_seeds_are_one_config(sweep):
    words = [(lr, seed) for seed in (1, 2) for lr in (0.1, 0.2)]
    for number, (lr, seed) in enumerate(words, 1):
        overrides = ["task=translate", f"optim.lr={lr}", f"seed={seed}", "++callbacks.a=1"]
        sweep.add(JobEntry(number, overrides, "proposed"))
    configs = sweep.configs()
    assert {config: [job.number for job in jobs] for config, jobs in configs.items()} == {
        ("optim.lr=0.1",): [1, 3],
        ("optim.lr=0.2",): [2, 4],
    }


def test_a_sweep_over_seeds_alone_has_one_config(sweep):
    assert sweep.configs() == {}
    for seed in (1, 2):
        sweep.add(JobEntry(seed, ["task=translate", f"seed={seed}"], "proposed"))
    assert {config: len(jobs) for config, jobs in sweep.configs().items()} == {(): 2}


def test_the_command_again_keeps_the_time_of_creation(sweep):
    sweep.update_settings(created="2026-01-01", primary_metric="test/chrf")
    again = SweepFolder.create(sweep.path, command=["run"], keys=[], seeds=[1, 2, 3], n_jobs=3)
    settings = again.settings()
    assert (settings["created"], settings["primary_metric"]) == ("2026-01-01", "test/chrf")
    assert (settings["seeds"], settings["n_jobs"]) == ([1, 2, 3], 3)


def test_a_damaged_file_of_settings_is_named(sweep):
    (sweep.path / "sweep.json").write_text("{")
    with pytest.raises(UserError, match=r"sweep\.json: is damaged .* repeat the sweep's command"):
        sweep.settings()


def test_the_run_of_a_job_lies_beside_the_sweep(sweep):
    entry = JobEntry(1, ["seed=1"], "running", run="run-1")
    assert sweep.run_folder(entry) is None
    (sweep.path.parent / "run-1").mkdir()
    run = sweep.run_folder(entry)
    assert isinstance(run, RunFolder)
    assert run.name == "run-1"


def test_a_sweep_is_found_by_path_name_and_time(sweep, tmp_path):
    assert find_sweep(str(sweep.path)).path == sweep.path
    assert find_sweep(sweep.name, tmp_path).path.resolve() == sweep.path
    assert find_sweep("latest", tmp_path).path == sweep.path
    with pytest.raises(UserError, match="Did you mean 'sweep-lr-0123abcd'"):
        find_sweep("sweep-lr-0123", tmp_path)
    with pytest.raises(UserError, match="Sweeps here: none"):
        find_sweep("latest", tmp_path / "elsewhere")


def test_a_sweep_folder_is_no_run(sweep):
    assert not (sweep.path / "config.yaml").exists()
    assert set(json.loads((sweep.path / "sweep.json").read_text())) >= {"name", "command", "keys"}
