import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb
from conftest import TINY
from wandb_server import serve_wandb

from gptexp.config.compose import compose_config
from gptexp.errors import UserError
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.tracker_history import fill_finished, open_complete_tracker
from gptexp.runs.trackers import check_tracker, open_tracker
from gptexp.runs.wandb_access import find_key, has_key_in_changes, hide_key

KEY = "0123456789" * 4


@pytest.fixture(params=["answers 500", "never answers"])
def sick_server(request, monkeypatch):
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            if request.param == "never answers":
                done.wait(30)
            self.send_response(500)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    yield
    done.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(monkeypatch):
    """A server on this machine that takes what W&B's own one takes."""
    with serve_wandb() as server:
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        wandb.teardown()  # its process keeps the address of an earlier server
        yield server
        wandb.teardown()


@pytest.fixture(scope="module")
def config():
    return compose_config([*TINY, "logger=wandb"])


@pytest.fixture
def folder(own_folder, config):
    folder = RunFolder(own_folder / "run")
    folder.create(config)
    return folder


def log_steps(config, folder, *steps, failed=True):
    """Log rows as one process of a run does."""
    tracker = open_complete_tracker(config, folder)
    for step in steps:
        row = {"step": step, "tokens": 10 * step, "flops": 1e9 * step, "val/loss": abs(step - 4)}
        row |= {"speed/step_ms": step, "speed/peak_memory_gib": 9 - step}
        folder.append_metrics(row)
        tracker.log(row)
    if not failed:
        folder.update_result(status="finished", steps=steps[-1], metrics={})
        samples = [{"input": "a", "reference": "b", "output": "c"}]
        tracker.finish({"test/loss": 2.0}, samples)
    tracker.close(failed=failed)


def sync(message):
    """Type the command that a message has; return its output."""
    command = re.search(r"(wandb sync [^\n;]*)", message)[1]
    tool = f"{Path(sys.executable).parent}/{command} 2>&1"
    process = subprocess.run(tool, shell=True, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stdout
    return process.stdout


def test_a_run_is_one_curve_over_steps_tokens_and_operations(server, tiny, folder):
    config = tiny("logger=wandb", "logger.group=a", "logger.log_data=record")
    folder.write_record("data", fingerprint="0123456789abcdef", splits={"train": {"sequences": 3}})
    folder.write_scores(
        [{"unit": "example", "split": "test", "id": "abcdef012345", "scores": {"rougeL": 41.2}}]
    )
    log_steps(config, folder, 1, 2, 3)
    folder.truncate_metrics(2, log_every=1)  # killed: it goes on from step 2
    log_steps(config, folder, 3, 4)
    folder.append_metrics({"step": 5, "tokens": 50, "flops": 5e9})  # which did not arrive
    log_steps(config, folder, 6, failed=False)
    run = server.runs["run"]
    assert server.rows("run", "step", "tokens", "flops") == [
        (step, 10 * step, 1e9 * step) for step in range(1, 7)
    ]
    assert (run["groupName"], run["jobType"], run["exit"]) == ("a", "train", 0)
    assert run["summary"]["val/loss"] == 0  # the lowest
    assert run["summary"]["speed/step_ms"] == {"mean": 6}  # of the last process
    assert run["summary"]["speed/peak_memory_gib"] == {"max": 3}
    assert run["summary"]["test/loss"] == 2
    assert server.rows("run", "samples", "step")[0][1] == 6
    [table] = [json.loads(file) for name, file in server.files.items() if "media/table" in name]
    assert table["columns"] == ["id", "input", "reference", "output", "rougeL"]
    assert table["data"] == [["abcdef012345", "a", "b", "c", 41.2]]
    metrics = {
        entry.get("1", entry.get("2")): entry for entry in run["config"]["_wandb"]["value"]["m"]
    }
    axis = metrics["step"]
    assert {"*", "step", "tokens", "flops", "val/loss"} <= metrics.keys()
    assert axis["6"] == metrics["tokens"]["6"] == [3, 2]  # without charts of their own
    names = {item["artifactCollectionName"] for item in server.artifacts if item["is_committed"]}
    assert names == {"summarize-0123456789ab", "run-run-samples"}


def test_a_run_that_is_offline_and_resumes_is_uploaded_as_one_curve_by_one_command(
    server, config, folder, capfd, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    log_steps(config, folder, 1, 2)
    log_steps(config, folder, 3)
    message = capfd.readouterr().err
    sync(message)
    assert server.rows("run", "step", "_step") == [(1, 0), (2, 1), (3, 2)]
    time.sleep(1)  # folders are named by the second
    log_steps(config, folder, 4, 5, failed=False)
    sync(message)
    assert [step for [step] in server.rows("run", "tokens")] == [10, 20, 30, 40, 50]
    assert server.runs["run"]["summary"]["test/loss"] == 2


def test_a_server_that_vanishes_costs_nothing_but_the_upload(
    server, config, folder, capfd, monkeypatch
):
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    log_steps(config, folder, 1, 2)
    tracker = open_complete_tracker(config, folder)
    server.shutdown()
    server.server_close()
    folder.append_metrics({"step": 3, "tokens": 30})
    tracker.log({"step": 3, "tokens": 30})
    folder.update_result(status="finished", steps=3, metrics={"test/loss": 2.0})
    tracker.close(failed=False)
    message = capfd.readouterr().err
    assert (
        "not taken everything (Timed out finishing run); to upload the rest, repeat the" in message
    )
    assert "to wait longer, set WANDB_FINISH_TIMEOUT=SECONDS" in message
    wandb.teardown()
    with serve_wandb() as again:
        again.runs = server.runs
        monkeypatch.setenv("WANDB_BASE_URL", again.url)
        monkeypatch.delenv("WANDB_FINISH_TIMEOUT")
        assert fill_finished(config, folder)
        assert not fill_finished(config, folder)
    assert again.rows("run", "step", "tokens") == [(1, 10), (2, 20), (3, 30)]
    assert again.runs["run"]["summary"]["test/loss"] == 2


def test_a_failure_is_an_alert_and_so_is_a_stop_that_no_sweep_causes(server, tiny, own_folder):
    for status, group in (("failed", "a"), ("stopped", "null"), ("stopped", "a")):
        config = tiny("logger=wandb", f"logger.group={group}")
        folder = RunFolder(own_folder / f"{status}-{group}")
        folder.create(config)
        tracker = open_tracker(config, folder)
        folder.update_result(status=status, error="the reason")
        tracker.close(failed=True)
    alerts = [(alert["title"], alert["text"], alert["severity"]) for alert in server.alerts]
    assert alerts == [
        ("failed-a: failed", "the reason", "ERROR"),
        ("stopped-null: stopped", "the reason", "WARN"),
    ]


def test_the_key_is_in_no_file_of_the_run(server, tiny, config, folder, own_folder, monkeypatch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a"]
    for words in (["init", "-q"], ["commit", "-qm", "a", "--allow-empty"]):
        subprocess.run([*git, *words], check=True)
    (own_folder / "script.py").write_text(f"key = '{KEY}'")
    assert not has_key_in_changes()
    subprocess.run([*git, "add", "script.py"], check=True)
    assert has_key_in_changes()
    with monkeypatch.context() as patched:
        patched.setattr("sys.argv", ["gptexp run", f"name={KEY}"])
        with pytest.raises(UserError, match="the API key of W&B stands in the command, which"):
            check_tracker(config)
        folder.create(config)
    with pytest.raises(UserError, match="the API key of W&B stands in the config, which"):
        check_tracker(tiny("logger=wandb", f"name={KEY}"))
    log_steps(config, folder, 1, failed=False)
    files = [file for file in folder.path.rglob("*") if file.is_file()]
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []
    assert [name for name, content in server.files.items() if KEY.encode() in content] == []
    assert hide_key(f"a {KEY} b") == "a *** b"


@pytest.mark.usefixtures("sick_server")
def test_a_sick_server_does_not_stop_a_run(config, own_folder, capfd):
    """It goes on offline, in one folder that has the whole curve and is named with the way to upload it."""
    folder = RunFolder(own_folder / "a run")
    folder.create(config)
    folder.append_metrics({"step": 1, "first_loss": 2.5})
    folder.update_result(parameters=1234)
    check_tracker(config)
    tracker = open_complete_tracker(config, folder)
    tracker.log({"step": 2, "second_loss": 2.0})
    tracker.finish({"test/loss": 2.0}, [{"input": "a", "reference": "b", "output": "c"}])
    tracker.close(failed=False)
    wandb.teardown()  # writes what W&B still holds in memory
    [offline] = (folder.path / "wandb").glob("offline-run-*")
    [file] = offline.glob("*.wandb")
    content = file.read_bytes()
    logged = [b"first_loss", b"second_loss", b"parameters", b"1234"]
    assert [name for name in logged if name in content] == logged
    message = capfd.readouterr().err
    assert "W&B: offline (" in message
    assert f"wandb sync '{own_folder}/a run/wandb'/offline-run-*" in message


def test_a_client_that_does_not_start_does_not_stop_a_run(config, own_folder, monkeypatch, capsys):
    monkeypatch.setattr("wandb.init", lambda **_: 1 / 0)
    folder = RunFolder(own_folder / "run")
    folder.create(config)
    tracker = open_tracker(config, folder)
    tracker.log({"step": 1})
    tracker.finish({}, [])
    tracker.close(failed=True)
    assert "W&B: division by zero. The run goes on without it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_MODE", "nonsense"),
        ("WANDB_BASE_URL", "wandb.example"),
        ("WANDB_INIT_TIMEOUT", "soon"),
        ("WANDB_TAGS", "a,,b"),
    ],
)
def test_odd_variables_are_refused_by_name(name, value, config, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^{name}={value}: .* unset {name}$"):
        check_tracker(config)


def test_a_key_that_wandb_refuses_is_not_in_the_message(config, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", f" {KEY}")
    with pytest.raises(UserError, match=r"^WANDB_API_KEY: .* unset WANDB_API_KEY$") as caught:
        check_tracker(config)
    assert KEY not in str(caught.value)


def test_the_key_is_that_of_the_server_of_wandb_login(own_folder, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(own_folder))
    monkeypatch.setenv("NETRC", str(own_folder / "netrc"))
    (own_folder / "netrc").write_text(f"machine wandb.example login user password {KEY}")
    assert find_key() is None
    (own_folder / "settings").write_text("[default]\nbase_url = https://wandb.example\n")
    assert find_key() == KEY


def test_online_without_a_key_is_refused(tiny, own_folder, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(own_folder / "none"))
    with pytest.raises(UserError, match=r"logger\.mode=online: there is no API key"):
        check_tracker(tiny("logger=wandb", "logger.mode=online"))


@pytest.mark.parametrize(
    "word",
    [
        "tags=['']",
        f"tags=[a,{65 * 'x'}]",
        "logger.project=a/b",
        "logger.project=''",
        f"logger.project={129 * 'x'}",
        "logger.entity=a:b",
        "logger.entity=' a'",
    ],
)
def test_names_that_wandb_refuses_are_refused_with_the_settings(word, tiny):
    with pytest.raises(UserError, match=word.split("=")[0]):
        tiny("logger=wandb", word)
    assert os.environ["WANDB_MODE"] == "offline"


def test_a_machine_without_wandb_is_told_what_to_type(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb, or choose logger=csv or logger=none"):
        check_tracker(config)
