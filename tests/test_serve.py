"""The verb: each mistake is one message before anything slow begins, and Ctrl-C ends the server."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from servers import BYTES, a_text_model

from gptexp import extras, serve
from gptexp.model.hf import convert


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    convert.save(a_text_model(), path)
    BYTES.save(path / "tokenizer.json")
    return path


def test_a_server_answers_until_ctrl_c(folder):
    command = [sys.executable, "-m", "gptexp.serve", str(folder), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**os.environ}, **pipes) as process:
        line = process.stdout.readline()
        assert line.startswith("model: try it at http://127.0.0.1:")
        url = line.split("try it at ")[1].split(",")[0]
        with urllib.request.urlopen(f"{url}/v1/models") as response:
            assert json.load(response)["data"][0]["id"] == "model"
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
    assert process.returncode == 0
    assert errors.splitlines()[-1] == "Ctrl-C ends the server"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "--port 70000: must be from 0 to 65535"),
        (["--max-batch", "0"], "--max-batch 0: must be from 1 to 1024"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--host", "a..b"], "--host a..b: not the name of a machine; give an address of this"),
        (["--weights", "int4"], "--weights int4: not known"),
    ],
)
def test_options_that_cannot_work_are_refused(verb, folder, words, message):
    code, error = verb(serve, folder, *words)
    assert code == 2
    assert message in error


def test_a_port_that_is_taken_is_named_before_the_model_is_loaded(verb, folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, error = verb(serve, folder, "--port", str(port))
    assert code == 2
    assert f"--port {port}: Address already in use; give another port" in error


def test_a_missing_run_and_a_missing_extra_are_named(verb, folder, monkeypatch):
    code, error = verb(serve, "outputs/nothing")
    assert code == 2
    assert "outputs/nothing" in error
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "uvicorn" else True)
    code, error = verb(serve, folder)
    assert code == 2
    assert "uvicorn: not installed. Type: pip install 'gptexp[serve]'" in error


def test_help_imports_no_torch():
    code = (
        "import sys; from gptexp import serve; assert not {'torch', 'starlette'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
