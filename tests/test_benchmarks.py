"""The scripts in benchmarks/ fit the package: a renamed function would be noticed only when somebody measures again."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
PARTS = sorted((FOLDER / "gpu_parts").glob("*.py"))


@pytest.fixture(autouse=True)
def benchmarks_on_path(monkeypatch):
    """As for a script of the folder: Python looks for its neighbours there, and keeps none of them for later tests."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER / "gpu_parts"))
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in set(sys.modules) - before:
        if (
            getattr(sys.modules[name], "__file__", None)
            and str(FOLDER) in sys.modules[name].__file__
        ):
            del sys.modules[name]


def import_script(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for theirs
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_benchmark_imports_and_shows_its_command(script):
    module = import_script(script)
    assert f"python benchmarks/{script.name}" in module.__doc__
    assert callable(module.main)


@pytest.mark.parametrize("script", PARTS, ids=lambda script: script.stem)
def test_a_part_of_the_gpu_benchmark_imports(script):
    assert import_script(script).__doc__


@pytest.fixture
def gpu():
    return import_script(FOLDER / "gpu.py")


@pytest.fixture
def run_parts(gpu, monkeypatch, capsys):
    """Run benchmarks/gpu.py with parts of our own; return its exit code, results.json and output."""

    def run(parts, *words):
        monkeypatch.setattr("sys.argv", ["gpu.py", "--out", "results", *words])
        capsys.readouterr()
        code = 0
        try:
            gpu.main(parts)
        except SystemExit as error:
            code = error.code
        results = json.loads(Path("results/results.json").read_text())
        return code, results, capsys.readouterr().out

    return run


def part_of(gpu, monkeypatch, folder, name, program, **settings):
    """A part whose script is `program`, which has FIGURES, the file to append figures to."""
    monkeypatch.setattr(gpu, "HERE", folder)
    script = folder / "gpu_parts" / f"{name}.py"
    script.parent.mkdir(exist_ok=True)
    head = "import sys, time\nFIGURES = open(sys.argv[sys.argv.index('--figures') + 1], 'a', 1)\n"
    script.write_text(head + program)
    return gpu.Part(name, name, **settings)


FIGURE = """print('{"name": "step", "value": 20.0, "unit": "ms"}', file=FIGURES)\n"""


def test_a_part_that_fails_or_hangs_leaves_the_others(gpu, run_parts, own_folder, monkeypatch):
    def part(*arguments, **settings):
        return part_of(gpu, monkeypatch, own_folder, *arguments, **settings)

    parts = (
        part("breaks", FIGURE + "sys.exit('no memory')"),
        part("hangs", FIGURE + "time.sleep(60)", seconds=0.5),
        part("works", FIGURE),
        part("compares", FIGURE, needs=("nanogpt",)),
    )
    code, results, output = run_parts(parts)
    assert code == 1
    rows = results["parts"]
    assert {name: row["state"] for name, row in rows.items()} == {
        "breaks": "failed",
        "hangs": "failed",
        "works": "done",
        "compares": "skipped",
    }
    assert rows["breaks"]["reason"] == "no memory"
    assert "stopped after" in rows["hangs"]["reason"]
    assert rows["compares"]["reason"] == "needs --nanogpt"
    for name in ("breaks", "hangs", "works"):  # figures from before the end count
        assert rows[name]["figures"] == [{"name": "step", "value": 20.0, "unit": "ms"}]
    assert "| works | step | 20 ms |" in output


def test_a_later_call_measures_what_is_missing(gpu, run_parts, own_folder, monkeypatch):
    count = "open('runs', 'a').write('1')\n"
    once = part_of(gpu, monkeypatch, own_folder, "once", count)
    late = part_of(gpu, monkeypatch, own_folder, "late", "")
    _, results, _ = run_parts((once, late), "--only", "once")
    assert list(results["parts"]) == ["once"]
    _, results, _ = run_parts((once, late), "--minutes", "0")
    assert results["parts"]["late"]["reason"] == "the 0 minutes are over; repeat the command"
    code, results, _ = run_parts((once, late))
    assert code == 0
    assert [row["state"] for row in results["parts"].values()] == ["done", "done"]
    assert Path("runs").read_text() == "1"
    run_parts((once, late), "--again")
    assert Path("runs").read_text() == "11"
    assert run_parts((once, late), "--toy")[0].startswith(
        "results/results.json: holds other results"
    )


def test_figures_are_held_against_their_aims(gpu):
    def figures(**values):
        return {"figures": [{"name": key, "value": values[key]} for key in values]}

    results = {"gpt2-muon": figures(speed=500.0, MFU=0.44), "nanogpt": figures(speed=400.0)}
    verdicts = {row["aim"]: row for row in gpu.judge(results)}
    assert verdicts["124 M by default, tokens/s against nanoGPT's"] == {
        "aim": "124 M by default, tokens/s against nanoGPT's",
        "value": 1.25,
        "limit": "at least 1.05",
        "is_met": True,
    }
    assert not verdicts["124 M by default, MFU"]["is_met"]
    assert "XL by default, MFU" not in verdicts
