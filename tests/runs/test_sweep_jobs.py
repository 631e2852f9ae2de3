import pytest

from gptexp.runs.sweep_jobs import Job, JobLog, describe_waiting


def test_jobs_of_this_process_need_no_file_and_those_of_others_do(own_folder):
    log = JobLog(own_folder)
    log.add(Job(["seed=1"], "run-1", "loss 2"))
    assert not log.file.exists()
    log.process = 0  # as in a process that a launcher has started
    log.add(Job(["seed=2"], None, "größer", code=1))
    assert [job.outcome for job in log.drain()] == ["loss 2", "größer"]
    assert log.drain() == []
    assert not log.file.exists()


@pytest.mark.parametrize(
    ("words", "logs"),
    [
        (["hydra/launcher=submitit", "seed=1,2"], "outputs/.submitit/"),
        (["outputs='my runs'", "hydra/launcher=slurm"], "my runs/.submitit/"),
        (["hydra/launcher=parallel"], None),
        (["seed=1,2"], None),
    ],
)
def test_whoever_waits_for_a_cluster_reads_where_the_logs_are(words, logs):
    line = describe_waiting(words)
    assert line == (logs and f"waiting for the jobs of the sweep; their logs: {logs}")
