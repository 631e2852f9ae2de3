"""The rooms of the house: imports point one way, and no room is a drawer."""

import ast
from pathlib import Path

import pytest

import gptexp

PACKAGE = Path(gptexp.__file__).parent
MAY_IMPORT = {
    "model": {"model"},
    "config": {"config"},
    "data": {"data", "config", "model"},  # the counts of a loss
    "generation": {"generation", "model"},
    "tasks": {"tasks", "data", "model", "generation", "config"},
    "distributed": {"distributed", "config"},
    "runs": {"runs", "config"},
    "checkpoints": {"checkpoints", "model", "config", "distributed", "runs", "data"},
}


def rooms_imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    rooms = {name.split(".")[1] for name in names if name.startswith("gptexp.")}
    return rooms - {
        file.stem for file in PACKAGE.glob("*.py")
    }  # errors, files and network lie on the ground floor


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room):
    for file in (PACKAGE / room).rglob("*.py"):
        assert rooms_imported(file) <= MAY_IMPORT[room], file


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
