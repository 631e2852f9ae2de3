"""The rooms of the house: imports point one way, and no room is a drawer."""

import ast
from pathlib import Path

import pytest

import gptexp
from gptexp.config import run_id

PACKAGE = Path(gptexp.__file__).parent
MAY_IMPORT = {
    "model": {"model"},
    "config": {"config"},
    "data": {"data", "config"},
    "generation": {"generation", "model"},
    "tasks": {"tasks", "data", "model", "generation", "config"},
    "distributed": {"distributed", "config"},
    "runs": {"runs", "config"},
    "statistics": {"statistics"},
    "pages": {"pages", "comparing", "runs", "statistics", "config"},
    "comparing": {"comparing", "runs", "statistics", "config"},
    "watching": {"watching", "runs"},
    "sweeping": {"sweeping", "runs", "statistics", "config", "distributed"},
    "planning": {
        "planning",
        "pages",
        "training",
        "checkpoints",
        "runs",
        "statistics",
        "model",
        "config",
        "distributed",
    },
    "checkpoints": {"checkpoints", "model", "config", "distributed", "runs", "data"},
    "auditing": {
        "auditing",
        "pages",
        "checkpoints",
        "tasks",
        "data",
        "model",
        "config",
        "distributed",
    },
    "harness": {"harness", "data", "generation", "model", "runs", "config"},
    "serving": {
        "serving",
        "pages",
        "checkpoints",
        "runs",
        "tasks",
        "data",
        "generation",
        "model",
        "config",
        "distributed",
    },
}


ROOMS_WITHOUT_RESULTS = {
    "harness",
    "config",
    "statistics",
    "runs",
    "auditing",
    "pages",
    "comparing",
    "watching",
    "serving",
    "sweeping",
    "planning",
}
GROUND_FLOOR = {file.stem for file in PACKAGE.glob("*.py")}
COMPUTES_NOTHING = {
    "errors",
    "extras",
    "files",
    "machine",
    "network",
    "optional_imports",
    "output",
    "setting_field",
    "characters",
    "stages",
    "wording",
}


def modules_imported(file: Path) -> set[str]:
    """The rooms and the modules of the ground floor that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("gptexp.")}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room):
    for file in (PACKAGE / room).rglob("*.py"):
        assert modules_imported(file) - GROUND_FLOOR <= MAY_IMPORT[room], file


def test_the_id_of_a_run_covers_every_module_that_computes():
    rooms = [room for room in run_id.RESULT_SOURCES if (PACKAGE / room).is_dir()]
    files = [file for room in rooms for file in (PACKAGE / room).rglob("*.py")]
    imported = set.union(*map(modules_imported, files)) & GROUND_FLOOR
    assert {f"{name}.py" for name in imported - COMPUTES_NOTHING} <= set(run_id.RESULT_SOURCES)
    assert set(MAY_IMPORT) - ROOMS_WITHOUT_RESULTS <= set(rooms)


def test_the_model_can_be_used_without_lightning_and_hydra():
    for file in (PACKAGE / "model").rglob("*.py"):
        assert not {"lightning", "hydra", "omegaconf"} & {
            node.module.split(".")[0]
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module
        }, file


def test_files_can_be_read_in_one_go():
    for file in PACKAGE.rglob("*.py"):
        assert file.stem not in {"utils", "helpers", "common", "misc"}
        assert len(file.read_text().splitlines()) <= 450, file
