import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import wandb

from gptexp.errors import UserError
from gptexp.runs.run_folder import RunFolder
from gptexp.runs.trackers import check_tracker, open_tracker

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


@pytest.mark.usefixtures("sick_server")
def test_a_sick_server_does_not_stop_a_run(tiny, own_folder, capfd):
    """It goes on offline, in one folder that has the whole curve and is named with the way to upload it."""
    config = tiny("logger=wandb")
    folder = RunFolder(own_folder / "a run")
    folder.create(config)
    folder.append_metrics({"step": 1, "first_loss": 2.5})
    folder.update_result(parameters=1234)
    check_tracker(config)
    tracker = open_tracker(config, folder)
    assert tracker.has_all_rows
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
    assert f"wandb sync '{own_folder}/a run/wandb/offline-run-" in message


def test_a_client_that_does_not_start_does_not_stop_a_run(tiny, own_folder, monkeypatch, capsys):
    monkeypatch.setattr("wandb.init", lambda **_: 1 / 0)
    config = tiny("logger=wandb")
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
        ("WANDB_API_KEY", f" {KEY}"),
    ],
)
def test_odd_variables_are_refused_by_name(name, value, tiny, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^{name}={value}: .* unset {name}$"):
        check_tracker(tiny("logger=wandb"))


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


def test_a_machine_without_wandb_is_told_what_to_type(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb, or choose logger=csv or logger=none"):
        check_tracker(tiny("logger=wandb"))
