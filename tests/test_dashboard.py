import json
import re
import sys

import pytest
import wandb
from wandb_server import serve_wandb

from gptexp import dashboard
from gptexp.runs.sweep_folder import JobEntry, SweepFolder

KEY = "0123456789" * 4
# wandb-workspaces, which is imported here for the first time
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")


def panels_of(spec):
    sections = spec["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in sections}


def test_a_dashboard_has_the_loss_over_steps_tokens_and_operations(verb, make_run):
    make_run("one", [1.0, 2.0])
    text = verb(dashboard, "latest", "--json")
    panels = panels_of(json.loads(text))
    axes = {panel["config"].get("xAxis") for panel in panels["Loss"]}
    assert {"step", "tokens", "flops", "seconds"} <= axes
    assert list(panels) == ["Loss", "Results", "Samples", "Speed"]
    assert json.loads(verb(dashboard, "--json"))  # without any run


def test_that_of_a_sweep_is_saved_in_the_project_of_its_runs(
    verb, make_run, monkeypatch, own_folder
):
    make_run("one", [1.0, 2.0])
    sweep = SweepFolder.create(own_folder / "outputs/sweep-lr", command=["run"], keys=["optim.lr"])
    sweep.add(JobEntry(1, ["optim.lr=1"], "finished", "one"))
    with serve_wandb() as server:
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        wandb.teardown()
        output = verb(dashboard, "sweep-lr", "--project", "lr")
        wandb.teardown()
    [view] = server.views or pytest.fail(str(output))
    assert (view["entityName"], view["projectName"], view["displayName"]) == (
        "me",
        "lr",
        "sweep-lr",
    )
    panels = panels_of(json.loads(view["spec"]))
    assert [panel["viewType"] for panel in panels["Sweep"]][:2] == [
        "Parallel Coordinates Plot",
        "Parameter Importance",
    ]
    assert "/me/lr?nw=" in output


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("extra", r"wandb_workspaces: not installed. Type: pip install 'gptexp\[dashboards\]'"),
        ("key", "there is no API key of W&B. Type: wandb login"),
        ("server", "the server of W&B does not answer"),
    ],
)
def test_a_dashboard_that_cannot_be_saved_is_refused(
    missing, message, verb, monkeypatch, own_folder
):
    monkeypatch.setenv("NETRC", str(own_folder / "none"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if missing == "extra":
        monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    if missing == "server":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    code, text = verb(dashboard)
    assert code == 2
    assert re.search(message, text)
