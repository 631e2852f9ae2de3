import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._filelock import FileLock

from gptexp.config import compose
from gptexp.distributed import compiler
from gptexp.distributed.compiler import (
    check_compiler,
    find_missing_part,
    is_worth_compiling,
    remove_unfinished_builds,
    should_compile,
)
from gptexp.errors import UserError

CUDA = torch.device("cuda")


@pytest.fixture
def gpu_machine(monkeypatch):
    monkeypatch.setattr(compiler, "list_gpus", lambda: ["0"])
    monkeypatch.setattr(compiler, "find_missing_part", lambda: "")
    monkeypatch.setattr(compiler, "compile_example", lambda _: None)


@pytest.fixture(scope="module")
def configs():
    return {
        size: compose.compose_config(["task=summarize", "logger=none", f"model={size}"])
        for size in ("nano", "gpt2")
    }


@pytest.fixture
def config(configs):
    def build(size="nano", **trainer):
        return replace(configs[size], trainer=replace(configs[size].trainer, **trainer))

    return build


@pytest.mark.parametrize("code", [0, 1])
def test_a_machine_that_cannot_compile_is_refused_with_the_reason(
    code, config, own_folder, monkeypatch
):
    program = own_folder / "python"
    program.write_text(f"#!/bin/sh\necho No working compiler; exit {code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    if code == 0:
        check_compiler(config(compile="true"))
        return
    with pytest.raises(UserError, match=r"trainer\.compile=true: .*\(No working compiler\)"):
        check_compiler(config(compile="true"))


def test_libraries_whose_build_was_killed_are_compiled_again(own_folder, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(own_folder))
    for folder in ("aa", "locks", "precompiled_headers/locks"):
        Path(folder).mkdir(parents=True)
    for name in ("aa/killed.main", "aa/running.main", "precompiled_headers/killed.h"):
        Path(f"{name}_CxxBuild").mkdir()
    cut = [Path("aa/killed.main.so"), Path("precompiled_headers/killed.h.gch")]
    kept = [Path("aa", name) for name in ("killed.main.cpp", "running.main.so", "complete.main.so")]
    for path in (*cut, *kept):
        path.touch()
    with FileLock("locks/running.lock"):
        remove_unfinished_builds()
    assert not any(path.exists() for path in cut)
    assert all(path.exists() for path in kept)
    assert [path.name for path in Path().glob("*/*_CxxBuild")] == ["running.main_CxxBuild"]


@pytest.mark.usefixtures("gpu_machine")
def test_auto_compiles_long_trainings_on_a_gpu(config):
    assert should_compile(config("gpt2", max_steps=2000), CUDA)
    assert not should_compile(config("nano", max_steps=200), CUDA)
    assert should_compile(config("nano", max_steps=200, compile="true"), CUDA)
    assert not should_compile(config("gpt2", max_steps=2000, compile="false"), CUDA)
    assert not should_compile(config("gpt2", max_steps=2000), torch.device("cpu"))
    assert is_worth_compiling(config("nano", max_steps=20000))


@pytest.mark.usefixtures("gpu_machine")
def test_auto_says_in_one_line_that_it_finds_no_compiler(config, monkeypatch, capsys):
    long = config(max_steps=20000)
    check_compiler(long)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(compiler, "find_missing_part", lambda: "C compiler, such as gcc")
    for other in ({"compile": "false"}, {"accelerator": "cpu"}, {"max_steps": 10}):
        check_compiler(config(**{"max_steps": 20000} | other))
    assert capsys.readouterr().err == ""
    check_compiler(long)
    assert not should_compile(long, CUDA)
    line = "trainer.compile=auto: training is not compiled, and slower for it ("
    assert capsys.readouterr().err == f"{line}this machine has no C compiler, such as gcc)\n"
    monkeypatch.setattr(compiler, "find_missing_part", lambda: "")

    def fail(_):
        raise RuntimeError("ptxas is missing\nand more")

    monkeypatch.setattr(compiler, "compile_example", fail)
    assert not should_compile(long, CUDA)
    assert capsys.readouterr().err == f"{line}ptxas is missing)\n"
    assert not should_compile(long, CUDA, prints=False)  # on other ranks
    assert capsys.readouterr().err == ""


def test_the_parts_that_a_compiler_needs_are_named(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiler.shutil, "which", lambda _: None)
    assert find_missing_part() == "C compiler, such as gcc"
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(compiler.sysconfig, "get_path", lambda _: "/nowhere")
    assert find_missing_part().startswith("headers of Python")
