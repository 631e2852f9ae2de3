"""Plugins: other people's modules that add choices to the groups."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import seconds_without_torch
from plugin import SETTINGS, write_plugin

from gptexp import check
from gptexp.config import compose, plugins, registry, run_id, source
from gptexp.config.conf_source import register_targets
from gptexp.errors import UserError
from gptexp.settings import settings_page

TOY = "plugins=[toy]"
CHOICES = ["task=backwards", "schedule=sawtooth", "optim=signsgd", "model=square"]


@pytest.fixture
def project(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with the plugin in it. What the process has imported is forgotten after the test."""
    write_plugin(own_folder)
    plugins.import_installed_plugins()
    kinds = {group: dict(schemas) for group, schemas in registry._schemas.items()}
    modules, path = set(sys.modules), list(sys.path)
    monkeypatch.setattr(plugins, "_imported", plugins.imported_plugins())
    monkeypatch.setattr(sys, "path", path)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    forget_installed_plugins()
    yield own_folder
    registry._schemas.clear()
    registry._schemas.update(kinds)
    for name in set(sys.modules) - modules:
        if not name.startswith("gptexp"):
            del sys.modules[name]
    forget_installed_plugins()


def forget_installed_plugins() -> None:
    plugins.import_installed_plugins.cache_clear()
    source._outside_fingerprint.cache_clear()


def test_a_plugin_adds_choices_with_typed_settings(project):
    config = compose.compose_config([TOY, *CHOICES, "schedule.period=4", "model.power=3"])
    assert (config.task.kind, config.data.kind, config.tokenizer.kind) == (
        "backwards",
        "words",
        "byte",
    )
    assert (config.schedule.period, config.model.power, config.model.d_ff) == (4, 3, 96)
    assert (config.plugins, config.plugin_folders) == (["toy"], [str(project.resolve())])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["schedule=sawtoth"], "Did you mean 'sawtooth'"),
        (["schedule=sawtooth", "schedule.perid=3"], "Did you mean 'schedule.period'"),
        (["schedule=sawtooth", "schedule.period=0"], "schedule.period=0: must be at least 1"),
        (["schedule.period=3"], "it is a key of schedule=sawtooth"),
        (
            ["optim._target_=toy_code.SignSGD"],
            "write _target_: my_package.MyClass into optim/NAME.yaml",
        ),
        (["schedule=triangle", "schedule.period=often"], "period=often: must be a whole number"),
        (["schedule=triangle", "schedule.perid=3"], "Did you mean 'schedule.period'"),
        (["callbacks=not"], "Did you mean 'note'"),
        (["task.metrics=[toy_code.Not]"], "toy_code.py defines no Not. Did you mean 'Note'"),
        (["task.metrics=[Not]"], "there is no module Not"),
        (["callbacks.x=3"], "callbacks.x._target_=my_package.MyClass"),
        (["callbacks=note", "callbacks.note.ever=3"], "Did you mean 'every'? Allowed: file, every"),
        (["callbacks.n._target_=toy_code.Note"], "callbacks.n.file must be given"),
        (["callbacks.n._target_=toy_code.Not"], "toy_code.py defines no Not. Did you mean 'Note'"),
        (["callbacks=note", "callbacks.note.every=x"], "every=x: must be a whole number"),
        (["callbacks=note", "callbacks.note.file=1e3"], "must be a text: put it in quotes"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_mistake_in_settings_of_a_plugin_is_answered_with_what_is_allowed(words, message):
    with pytest.raises(UserError) as error:
        compose.compose_config([TOY, *words])
    assert message in str(error.value)
    assert "toy_code" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no module toy"),
        ("import nowhere_to_be", "it imports nowhere_to_be, which is not installed"),
        ("1 / 0", "ZeroDivisionError"),
        (SETTINGS.replace('"sawtooth"', '"linear"'), "both gptexp.config.schema.schedule.Linear"),
        (SETTINGS.replace("@dataclass\n", ""), "decorate it with @dataclass"),
        (SETTINGS.replace("    kind", "    # kind"), "set `kind: str`"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_refused(text, message, project):
    (project / "toy.py").unlink()
    if text:
        (project / "toy.py").write_text(text)
    with pytest.raises(UserError) as error:
        compose.compose_config([TOY])
    assert message in str(error.value)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["optim=sgd", "schedule=triangle", "callbacks=note", "--cfg", "job"],
        ["schedule=sawtoth"],
        ["optim=sgd", "optim.momentum=much"],
    ],
)
def test_help_and_errors_with_a_plugin_come_without_torch_and_at_once(words):
    assert seconds_without_torch(TOY, *words) < 2  # 0.5 on an idle machine


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "model/old",
            "defaults: [base_transformer]\nwidth: 3",
            "'model.width' is called 'model.d_model'",
        ),
        ("model/bad", "defaults: [base_transformer]\nlayerz: 3", "Did you mean 'model.layers'"),
        ("schedule/bad", "_target_: toy_code.Triangle\nperod: 3", "Did you mean 'schedule.period'"),
        ("schedule/gone", "_target_: toy_code.Triangles", "Did you mean 'Triangle'"),
        ("schedule/none", "_target_: nowhere.Triangle", "there is no module nowhere"),
        (
            "experiment/old",
            "# @package _global_\noptim: {warmup: 3}",
            "'schedule.warmup_steps' now",
        ),
    ],
)
def test_a_mistake_in_a_file_of_a_plugin_is_named(file, text, message, project):
    (project / f"conf/{file}.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        compose.compose_config([TOY, file.replace("/", "=")])
    assert message in str(error.value)


def test_a_file_of_a_choice_that_exists_already_is_refused(project):
    (project / "conf/schedule/linear.yaml").write_text("{}")
    with pytest.raises(UserError, match="there are two files of this name"):
        compose.compose_config([TOY])


@pytest.mark.usefixtures("project")
def test_a_target_is_enough_for_a_choice():
    assert compose.compose_config(["task=translate"]).optim.learning_rates() == ["lr", "adamw_lr"]
    words = [TOY, "task=backwards", "data=more_words", "schedule=triangle", "optim=sgd"]
    config = compose.compose_config([*words, "optim.nesterov=true", "logger=file"])
    assert (config.data.count, config.data.letters, config.data.split) == (200, "xyz", "near")
    assert (config.schedule.period, config.schedule.low) == (5, 0.5)
    assert (config.optim.momentum, config.optim.nesterov, config.optim.grad_clip) == (0.9, True, 1)
    assert config.logger.name == "curve.txt"


def test_a_yaml_file_may_name_its_plugins(project):
    config = compose.compose_config(["task=translate"])
    assert config.plugins == []
    (project / "mine.yaml").write_text(
        "defaults: [config, override task: backwards, _self_]\nplugins: [toy]\nseed: 7\n"
    )
    config = compose.compose_config([], project / "mine.yaml")
    assert (config.task.kind, config.plugins, config.seed) == ("backwards", ["toy"], 7)


def test_every_choice_of_a_plugin_is_composed_by_check(project):
    compose.prepare_hydra([TOY])
    commands = {" ".join(overrides): overrides for overrides, _ in check.shipped_jobs()}
    own = [f"{path.parent.name}={path.stem}" for path in (project / "conf").rglob("*.yaml")]
    for choice in own:
        check.compose_job([*commands[choice], TOY], None)
    assert "schedule=triangle" in own


@pytest.mark.usefixtures("project")
def test_the_page_of_settings_has_those_of_a_plugin():
    compose.prepare_hydra([TOY])
    register_targets()
    page = settings_page()
    assert "| `schedule.period` | `10` | integer from 1 | steps of a tooth |" in page
    assert "### optim=sgd\n" in page
    assert "| `optim.momentum` | `0` | number | parameter of torch.optim.SGD |" in page


def test_a_script_that_registers_a_class_can_be_loaded_by_other_processes(project):
    (project / "script.py").write_text(
        SETTINGS.replace("toy_code:Sawtooth", "script:Sawtooth")
        + "class Sawtooth: pass\n"
        + "if __name__ == '__main__':\n"
        + "    from pathlib import Path\n"
        + "    from gptexp.config import compose\n"
        + "    config = compose.compose_config(['plugins=[script]', 'schedule=sawtooth'])\n"
        + "    compose.save_config(config, Path('config.yaml'))\n"
    )
    subprocess.run([sys.executable, "script.py"], check=True)
    config = compose.load_config(project / "config.yaml")
    assert (config.schedule.kind, config.plugins) == ("sawtooth", ["script"])


def test_a_target_in_the_folder_of_the_command_line_is_enough(project):
    (project / "other/schedule").mkdir(parents=True)
    (project / "other/schedule/mine.yaml").write_text("_target_: toy_code.Triangle\n")
    words = ["schedule=mine", "schedule.period=3", "-cd", "other", "--cfg", "job"]
    assert seconds_without_torch(*words) < 2  # 0.5 on an idle machine


def test_pyproject_of_the_working_folder_or_above_names_plugins(project, monkeypatch):
    (project / "pyproject.toml").write_text('[tool.gptexp]\nplugins = ["toy"]\n')
    (project / "inner").mkdir()
    monkeypatch.chdir(project / "inner")
    assert compose.compose_config(["task=backwards"]).plugins == ["toy"]
    assert compose.compose_config(["task=translate"]).plugins == []


def test_an_entry_point_adds_choices_and_a_broken_one_is_left_out(project, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(project))
    (project / "toy-1.dist-info").mkdir()
    (project / "toy-1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: toy\nVersion: 1\n"
    )
    (project / "toy-1.dist-info/entry_points.txt").write_text(
        "[gptexp.plugins]\ntoy = toy\ngone = nowhere_to_be\n"
    )
    assert compose.compose_config(["task=backwards"]).plugins == ["toy"]
    assert "left out: plugin nowhere_to_be: there is no module" in capsys.readouterr().err


def test_the_id_changes_with_the_source_of_what_a_run_uses(project):
    def an_id(*words: str) -> str:
        source._outside_fingerprint.cache_clear()
        return run_id.run_id(compose.compose_config([TOY, *words]))

    plain = run_id.run_id(compose.compose_config(["task=translate"]))
    before = {
        word: an_id(word) for word in ("task=backwards", "schedule=triangle", "callbacks=note")
    }
    code = project / "toy_code.py"
    code.write_text(code.read_text() + "\n# a comment\n")
    assert before == {word: an_id(word) for word in before}
    code.write_text(code.read_text() + "\nLIMIT = 3\n")
    after = {word: an_id(word) for word in before}
    assert all(before[word] != after[word] for word in before)
    assert run_id.run_id(compose.compose_config(["task=translate"])) == plain
    assert an_id("schedule=triangle") != an_id("schedule=triangle", "schedule.period=6")


def test_the_config_of_a_run_loads_from_another_folder(project, tmp_path_factory):
    config = compose.compose_config([TOY, *CHOICES, "schedule=triangle", "callbacks=note"])
    compose.save_config(config, project / "config.yaml")
    assert compose.load_config(project / "config.yaml") == config
    program = (
        "from gptexp.config import compose; from pathlib import Path\n"
        f"config = compose.load_config(Path({str(project / 'config.yaml')!r}))\n"
        "print(config.task.kind, config.schedule.period, config.plugins)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={**os.environ, "PYTHONPATH": str(Path(compose.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "backwards 5 ['toy']\n"
