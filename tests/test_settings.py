import subprocess
import sys
from pathlib import Path

PLUGIN = """
from dataclasses import dataclass
from gptexp import TaskConfig, register
@register
@dataclass
class LoudConfig(TaskConfig):
    kind: str = "loud"
    target = "loud:Loud"
    volume: int = 8
"""


def settings_page(*words):
    command = [sys.executable, "-m", "gptexp.settings", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_page_of_settings_is_that_of_the_schema():
    page = Path(__file__).parents[1] / "docs" / "settings.md"
    assert page.read_text("utf8") == settings_page(), "python -m gptexp.settings > docs/settings.md"


def test_the_page_tells_what_a_task_chooses(own_folder):
    (own_folder / "loud.py").write_text(PLUGIN)
    (own_folder / "conf" / "task").mkdir(parents=True)
    task = own_folder / "conf" / "task" / "loud.yaml"
    task.write_text(
        "# @package _global_\ndefaults: [/task/base_loud@task, override /model: nano]\n"
    )
    task.with_name("quiet.yaml").write_text("# @package _global_\n")
    page = settings_page("plugins=[loud]")
    assert "| `task=loud` | `model=nano` |" in page
    assert "| `task=quiet` |  |" in page
    assert "| `task=speak` | `model=nano data=spoken tokenizer=char` |" in page


def test_a_plain_field_of_a_plugin_is_listed(own_folder):
    (own_folder / "loud.py").write_text(PLUGIN)
    assert "| `task.volume` | `8` | integer |  |" in settings_page("plugins=[loud]")
