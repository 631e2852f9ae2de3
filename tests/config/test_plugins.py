"""Plugins: other people's modules that add choices to the groups."""

import sys
from pathlib import Path

import pytest

from gptexp.config import compose, plugins, registry
from gptexp.errors import UserError

SCHEDULE = """
from dataclasses import dataclass
from gptexp import ScheduleConfig, register, setting

@register
@dataclass
class SawtoothConfig(ScheduleConfig):
    kind: str = "sawtooth"
    target = "sawtooth_schedule:Sawtooth"
    period: int = setting(10, "steps of a tooth", minimum=1)
"""


@pytest.fixture
def plugin_folder(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that can be imported; what they register is gone after the test."""
    monkeypatch.syspath_prepend(str(own_folder))
    known, modules = (
        {group: dict(kinds) for group, kinds in registry._schemas.items()},
        set(sys.modules),
    )
    yield own_folder
    registry._schemas.clear()
    registry._schemas.update(known)
    for name in set(sys.modules) - modules:
        if not name.startswith("gptexp"):
            del sys.modules[name]
    plugins.import_installed_plugins.cache_clear()


def test_a_named_module_adds_a_choice_whose_settings_are_typed(plugin_folder):
    (plugin_folder / "sawtooth.py").write_text(SCHEDULE)
    compose.prepare_hydra(["plugins=[sawtooth]"])
    assert registry.schemas("schedule")["sawtooth"]().period == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no module sawtooth"),
        ("import nowhere_to_be", "it imports nowhere_to_be, which is not installed"),
        ("1 / 0", "ZeroDivisionError"),
        (
            SCHEDULE.replace('"sawtooth"', '"linear"'),
            "both gptexp.config.schema.schedule.LinearConfig and",
        ),
        (SCHEDULE.replace("@dataclass\n", ""), "decorate it with @dataclass"),
        (SCHEDULE.replace("    kind", "    # kind"), "set `kind: str`"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_refused(text, message, plugin_folder):
    if text:
        (plugin_folder / "sawtooth.py").write_text(text)
    with pytest.raises(UserError) as error:
        compose.compose_config(["plugins=[sawtooth]"])
    assert message in str(error.value)


def test_pyproject_of_the_working_folder_or_above_names_plugins(plugin_folder, monkeypatch):
    (plugin_folder / "sawtooth.py").write_text(SCHEDULE)
    (plugin_folder / "pyproject.toml").write_text('[tool.gptexp]\nplugins = ["sawtooth"]\n')
    (plugin_folder / "inner").mkdir()
    monkeypatch.chdir(plugin_folder / "inner")
    plugins.import_installed_plugins.cache_clear()
    compose.compose_config([])
    assert "sawtooth" in registry.schemas("schedule")


def test_an_entry_point_adds_a_choice_and_a_broken_one_is_left_out(plugin_folder, capsys):
    (plugin_folder / "sawtooth.py").write_text(SCHEDULE)
    info = plugin_folder / "teeth-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: teeth\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[gptexp.plugins]\nteeth = sawtooth\ngone = nowhere_to_be\n"
    )
    plugins.import_installed_plugins.cache_clear()
    compose.compose_config([])
    assert "sawtooth" in registry.schemas("schedule")
    assert "plugin nowhere_to_be: left out" in capsys.readouterr().err
