"""`make` installs with uv where it can; .ci/install.py is no module of the package."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[1] / ".ci" / "install.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_uv_gets_the_settings_of_pip_and_a_users_own_variables_win(script, monkeypatch):
    monkeypatch.setenv("UV_CONSTRAINT", "mine.txt")
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    environment = script.environment_of_uv(
        ":env:.find-links='/a /b'\nglobal.find-links='/c'\n"
        "global.constraint='theirs.txt'\nglobal.timeout='60'\n"
    )
    assert environment["UV_FIND_LINKS"] == "/a,/b"
    assert environment["UV_CONSTRAINT"] == "mine.txt"


@pytest.mark.parametrize("failing", ["", "uv", "--python"])
def test_pip_installs_what_uv_cannot(script, monkeypatch, failing):
    commands = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, int(failing in command), stdout="")

    monkeypatch.setattr(script.subprocess, "run", run)
    if failing:
        with pytest.raises(SystemExit, match="0"):
            script.install(".[all]")
    else:
        script.install(".[all]")
    is_by_uv = "--python" in commands[-1]
    assert commands[-1][-2:] == ["--editable", ".[all]"]
    assert is_by_uv != bool(failing)
