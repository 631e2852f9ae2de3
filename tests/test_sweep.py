"""Multirun: one folder and one W&B run a job, whatever is swept and whoever runs the jobs."""

import json
import re
from pathlib import Path

import pytest
from conftest import command, end_when
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gptexp.config.compose import prepare_hydra
from gptexp.config.package_data import conf_folder
from gptexp.distributed import claim_gpus
from gptexp.run import describe_waiting
from gptexp.runs.sweep_folder import find_sweep


def folders() -> list[Path]:
    """The folders of the runs, translate-nano-ID."""
    return sorted(
        path for path in Path("outputs").glob("*") if path.is_dir() and path.name.startswith("t")
    )


def status(folder: Path) -> str:
    file = folder / "result.json"
    return json.loads(file.read_text())["status"] if file.is_file() else "none"


def test_processes_and_strategies_can_be_swept(pairs_words):
    process = command(
        "-m", *pairs_words, "logger=wandb", "trainer.devices=2,1", "trainer.strategy=ddp,fsdp"
    )
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert [path.name.split("-", 3)[3] for path in folders()] == [
        f"devices{n}-strategy{kind}" for n in (1, 2) for kind in ("ddp", "fsdp")
    ]
    assert [len(list(path.glob("wandb/offline-run-*"))) for path in folders()] == [1] * 4
    assert {path.name for path in Path().glob("*")} == {
        "cache",
        "outputs",
        "pairs.jsonl",
    }  # nothing stray
    assert said.count("trainer.devices=2 trainer.strategy=fsdp") == 1


def test_a_failed_job_is_marked_and_the_others_finish(pairs_words):
    process = command(
        "-m",
        *pairs_words,
        "name='high and low rates'",
        "optim=adamw",
        "optim.lr=1e30,0.001",
        "optim.grad_clip=0",
        "schedule.warmup_steps=0",
    )
    _, said = process.communicate()
    assert process.returncode == 1
    assert sorted(status(folder) for folder in folders()) == ["failed", "finished"]
    assert find_sweep("latest").name.startswith("sweep-high_and_low_rates-")
    page = find_sweep("latest").report_file.read_text()
    assert page.count('class="status bad">failed') == 1
    assert re.search(r"optim\.lr=1e\+?30 +failed", said), said
    states = [job.state for job in find_sweep("latest").jobs()]
    assert sorted(states) == ["failed", "finished"]


def test_a_killed_sweep_goes_on_where_it_was(pairs_words):
    words = [*pairs_words, "trainer.max_steps=40", "seeds=2"]

    def second_job_has_saved() -> bool:
        return len(folders()) == 2 and any(
            status(folder) == "running" and (folder / "checkpoints" / "last").is_file()
            for folder in folders()
        )

    end_when(command(*words), second_job_has_saved)
    assert sorted(map(status, folders())) == ["finished", "running"]
    finished = next(folder for folder in folders() if status(folder) == "finished")
    written = (finished / "environment.json").stat().st_mtime_ns
    _, errors = command(*words).communicate()
    assert list(map(status, folders())) == ["finished", "finished"]
    assert (finished / "environment.json").stat().st_mtime_ns == written  # it has not run again
    assert errors.count("resuming at step") == 1
    assert errors.count("baseline") == 2  # the table has both


@pytest.mark.parametrize(
    "word", ["hydra/launcher=parallel", "hydra/launcher=submitit", "hydra.launcher.slots=2"]
)
def test_jobs_may_run_elsewhere(word, pairs_words):
    process = command("-m", word, *pairs_words, "seed=1,2")
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert list(map(status, folders())) == ["finished", "finished"]
    assert said.count("baseline") == 2  # the table has both
    assert [job.state for job in find_sweep("latest").jobs()] == ["finished", "finished"]


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


def test_the_slurm_preset_asks_for_what_the_run_needs():
    prepare_hydra([])
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        words = [
            "hydra/launcher=slurm",
            "trainer.devices=4",
            "trainer.nodes=2",
            "trainer.global_batch_size=16",
        ]
        launcher = compose("config", words, return_hydra_config=True).hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.nodes, launcher.tasks_per_node, launcher.gpus_per_node) == (2, 4, 4)


@pytest.mark.parametrize(
    ("words", "address", "gpus", "reserved"),
    [
        (["trainer.devices=2"], None, "0,1", 2),
        ([], None, "", 0),
        (["trainer.accelerator=cpu"], "auto", "0,1", 0),
        ([], "auto", "", 1),
    ],
)
def test_the_ray_preset_reserves_the_gpus_of_a_job(words, address, gpus, reserved, monkeypatch):
    """Ray hides all GPUs from a job that reserves none, and waits for ever for one that is not there."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    prepare_hydra([])
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose("config", words, return_hydra_config=True)
    preset = OmegaConf.load(Path(conf_folder(), "hydra", "launcher", "on_ray.yaml")).hydra.launcher
    OmegaConf.set_struct(config, False)
    config.hydra.launcher = preset
    config.hydra.launcher.ray.init = {"address": address}
    assert config.hydra.launcher.ray.remote.num_gpus == reserved


@pytest.mark.parametrize("preset", ["parallel", "submitit"])
def test_jobs_on_one_machine_claim_their_gpus(preset):
    file = Path(conf_folder(), "hydra", "launcher", f"{preset}.yaml")
    assert OmegaConf.load(file).hydra.job.env_set[claim_gpus.CLAIM]
