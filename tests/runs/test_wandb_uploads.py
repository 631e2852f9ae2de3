"""An evaluation, an exported model and the table of a sweep are runs or artifacts in W&B."""

import json

import pytest
import wandb
from wandb_server import serve_wandb

from gptexp.config.schema import WandbConfig
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.sweep_folder import JobEntry, SweepFolder
from gptexp.runs.wandb_uploads import log_evaluation, log_model, log_sweep, with_wandb


@pytest.fixture
def server(monkeypatch):
    with serve_wandb() as server:
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
        wandb.teardown()
        yield server
        wandb.teardown()


def tables_of(server):
    return [json.loads(file) for name, file in server.files.items() if "media/table" in name]


def test_an_evaluation_is_a_run_and_a_model_an_artifact_of_the_run(server, tiny, own_folder):
    config = tiny("logger=none", "tags=[a]")
    folder = RunFolder(own_folder / "outputs/one")
    folder.create(config)
    config = with_wandb(config)
    assert config.logger == WandbConfig()
    samples = [{"input": "a", "reference": "b", "output": "c"}]
    scores = [{"unit": "example", "id": "abcdef012345", "scores": {"rougeL": 41.0}}]
    assert log_evaluation(config, folder, "val", {"val/rougeL": 41.0}, samples, scores)
    run = server.runs["one-evaluate-val"]
    assert (run["jobType"], run["summary"]["val/rougeL"], run["exit"]) == ("evaluate", 41, 0)
    [table] = tables_of(server)
    assert table["columns"] == ["id", "input", "reference", "output", "rougeL"]
    assert table["data"] == [["abcdef012345", "a", "b", "c", 41.0]]
    exported = own_folder / "exported"
    exported.mkdir()
    (exported / "model.safetensors").write_bytes(b"weights")
    assert log_model(config, folder, exported)
    [artifact] = [item for item in server.artifacts if item["artifactTypeName"] == "model"]
    assert (artifact["artifactCollectionName"], artifact["runName"]) == ("model-one", "one")
    assert artifact["is_committed"]
    assert b"weights" in server.files.values()


def test_the_table_of_a_sweep_is_a_run_in_its_group(server, tiny, own_folder):
    outputs = own_folder / "outputs"
    sweep = SweepFolder.create(outputs / "sweep-lr", command=["run"], keys=["optim.lr"])
    sweep.results_file.write_text("number,optim.lr,test/f1,verdict\n1,0.1,41.5,best\n2,0.2,,\n")
    sweep.add(JobEntry(1, ["optim.lr=0.1"], "finished", "one"))
    RunFolder(outputs / "one").create(tiny("logger=none"))
    assert not log_sweep(sweep)
    RunFolder(outputs / "one").create(tiny("logger=wandb"))
    assert log_sweep(sweep)
    run = server.runs["sweep-lr"]
    assert (run["jobType"], run["groupName"]) == ("sweep", "sweep-lr")
    [table] = tables_of(server)
    assert table["columns"] == ["number", "optim.lr", "test/f1", "verdict"]
    assert table["data"] == [[1, 0.1, 41.5, "best"], [2, 0.2, None, None]]
