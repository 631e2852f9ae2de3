"""Speech and vision are plugins as those of other people: the rest of the package does not know them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gptexp

PACKAGE = Path(gptexp.__file__).parent
PLUGINS = ("gptexp.tasks.speech", "gptexp.tasks.vision")


@pytest.mark.parametrize("plugin", PLUGINS)
def test_no_module_outside_imports_a_plugin_when_it_is_imported(plugin):
    for file in PACKAGE.rglob("*.py"):
        if file.is_relative_to(PACKAGE / "tasks" / "speech"):
            continue  # draws its spectrograms with vision's images
        if file.is_relative_to(PACKAGE / "tasks" / plugin.rpartition(".")[2]):
            continue
        for node in ast.parse(file.read_text("utf8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                assert not node.module.startswith(plugin), file


def test_without_the_plugins_their_choices_are_unknown():
    script = """
import gptexp.config.plugins as plugins
plugins.import_installed_plugins = lambda: None
from gptexp.config import compose, registry
compose.prepare_hydra([])
print(sorted(registry.schemas("task")), sorted(registry.schemas("data")))
compose.prepare_hydra(["plugins=[gptexp.tasks.speech]"])
print(sorted(registry.schemas("task")), sorted(registry.schemas("data")))
"""
    lines = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "'speak'" not in lines[0]
    assert "'scenes'" not in lines[0]
    assert "'translate'" in lines[0]
    assert "'speak'" in lines[1]
    assert "'caption'" not in lines[1]


def test_the_settings_of_plugins_are_checked_without_torch():
    script = """
import sys
from gptexp.config import compose
compose.compose_config(["task=speak"]); compose.compose_config(["task=caption"])
print([name for name in ("torch", "PIL", "soundfile") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
