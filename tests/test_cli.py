"""What all verbs share."""

import io
import json
import subprocess
import sys

import pytest

from gptexp import run
from gptexp.cli import print_json


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_is_json_in_any_terminal(encoding, monkeypatch):
    out = io.BytesIO()
    monkeypatch.setattr(
        "sys.stdout", io.TextIOWrapper(out, encoding=encoding, errors="backslashreplace")
    )
    print_json({"outputs": ["März 日本"]})
    assert json.loads(out.getvalue()) == {"outputs": ["März 日本"]}
    assert ("März".encode() in out.getvalue()) == (encoding == "utf-8")


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "ValueError('wrong')"])
def test_ctrl_c_is_one_line_while_modules_load(error):
    code = f"import sys; sys.argv = ['-m']; import gptexp; raise {error}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if error == "KeyboardInterrupt":
        assert ended.stderr == "gptexp: interrupted\n"
    else:
        assert ended.stderr.startswith("Traceback")


def test_a_sweep_has_no_single_config_to_print(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gptexp run", "-m", "seed=1,2", "--cfg", "job"])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert "-m: cannot stand beside --cfg" in capsys.readouterr().err


def test_the_package_runs_the_verbs():
    done = subprocess.run(
        [sys.executable, "-m", "gptexp", "trin"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("gptexp: there is no verb 'trin'.")
