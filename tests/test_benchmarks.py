"""The scripts in benchmarks/ fit the package: a renamed function would be noticed only when somebody measures again."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

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

    def run(parts, *words, machine="a card"):
        monkeypatch.setattr(gpu, "describe_machine", lambda _: {"gpu": machine, "torch": "2.13"})
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
    for name in ("breaks", "hangs", "works"):
        assert rows[name]["time"]
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


def test_results_of_another_gpu_or_setting_are_refused_in_one_line(
    gpu, run_parts, own_folder, monkeypatch
):
    parts = (part_of(gpu, monkeypatch, own_folder, "works", FIGURE),)
    run_parts(parts)
    assert run_parts(parts, machine="another")[0] == (
        "results/results.json: has results of gpu a card; now: gpu another. Give another --out"
    )
    assert "toy False; now: toy True" in run_parts(parts, "--toy")[0]


def test_a_part_that_the_total_of_minutes_cuts_off_waits_for_the_next_call(
    gpu, run_parts, own_folder, monkeypatch
):
    monkeypatch.setattr(gpu, "LEAST_SECONDS", 0)
    parts = (part_of(gpu, monkeypatch, own_folder, "hangs", FIGURE + "time.sleep(60)"),)
    code, results, _ = run_parts(parts, "--minutes", "0.01")
    row = results["parts"]["hangs"]
    assert (code, row["state"]) == (0, "skipped")
    assert "the 0.01 minutes are over; repeat the command" in row["reason"]
    assert row["figures"] == [{"name": "step", "value": 20.0, "unit": "ms"}]


def test_parts_whose_ratio_counts_are_measured_in_the_same_call(
    gpu, run_parts, own_folder, monkeypatch
):
    ours = part_of(gpu, monkeypatch, own_folder, "ours", "open('runs', 'a').write('o')")
    theirs = part_of(gpu, monkeypatch, own_folder, "theirs", "open('runs', 'a').write('t')")
    parts = (ours, gpu.replace(theirs, beside="ours"))
    run_parts(parts, "--only", "ours")
    run_parts(parts)
    run_parts(parts)
    assert Path("runs").read_text() == "oot"
    run_parts(parts, "--only", "ours", "--again")
    _, results, _ = run_parts(parts)
    assert Path("runs").read_text() == "ootoot"
    assert {row["call"] for row in results["parts"].values()} == {4}


def figures_of(state="done", call=1, **values):
    figures = [{"name": key, "value": value} for key, value in values.items()]
    return {"state": state, "call": call, "figures": figures}


def test_figures_are_held_against_their_aims(gpu):
    results = {
        "gpt2-muon": figures_of(speed=500.0, MFU=0.44),
        "nanogpt": figures_of(speed=400.0),
        "xl-gpt2-muon": figures_of(state="failed", MFU=0.7),
    }
    verdicts = {row["aim"]: row for row in gpu.judge(results)}
    against_nanogpt = "124 M by default, tokens/s against nanoGPT's in the same call"
    assert verdicts[against_nanogpt] == {
        "aim": against_nanogpt,
        "value": 1.25,
        "limit": "at least 1.05",
        "is_met": True,
    }
    assert verdicts["124 M by default, MFU"]["is_met"] is False
    for aim in ("XL by default, MFU", "Shakespeare, validation loss"):  # failed, and not there
        assert verdicts[aim]["value"] is verdicts[aim]["is_met"] is None
    results["nanogpt"]["call"] = 2
    verdicts = {row["aim"]: row for row in gpu.judge(results)}
    assert verdicts[against_nanogpt]["value"] is None


def test_tests_that_are_all_skipped_meet_no_aim(gpu):
    for passed, is_met in ((0, None), (3, True)):
        results = {"tests-runs": figures_of(passed=passed, failed=0, skipped=9)}
        verdicts = {row["aim"]: row for row in gpu.judge(results)}
        assert verdicts["tests of runs that fail"]["is_met"] is is_met


def test_made_up_pairs_are_not_held_against_the_aim_for_those_of_multi30k(gpu):
    for pairs, is_met in (("made up", None), ("train.en.gz and train.de.gz", True)):
        results = {"translate": figures_of(pairs=pairs, training=2.0)}
        verdicts = {row["aim"]: row for row in gpu.judge(results)}
        assert verdicts["translation of --pairs, seconds of training"]["is_met"] is is_met


def test_an_aim_that_was_not_measured_is_listed_as_such(run_parts, gpu, own_folder, monkeypatch):
    _, _, output = run_parts((part_of(gpu, monkeypatch, own_folder, "works", FIGURE),))
    assert "| Shakespeare, tokens of training | at most 13,000,000 | not measured |  |" in output


def test_outcomes_of_tests_are_counted_as_they_come(own_folder, monkeypatch, capsys):
    (own_folder / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('words', [['a=1', 'b=2']], ids=str)\n"
        "def test_right(words): pass\n"
        "def test_wrong(): assert False\n"
        "@pytest.mark.skip(reason='no GPU')\n"
        "def test_left_out(): pass\n"
        "def test_other(): pass\n"
    )
    module = import_script(FOLDER / "gpu_parts" / "gpu_tests.py")
    monkeypatch.setattr(module, "TESTS", own_folder)
    monkeypatch.setattr(
        "signal.signal", lambda *_: None
    )  # SIGTERM ends a part, but not these tests
    monkeypatch.setattr("sys.argv", ["gpu_tests.py", "test_some.py", "--names", "not other"])
    module.main()
    lines = capsys.readouterr().out.splitlines()
    assert {"failed test: test_wrong", "passed: 1", "failed: 1", "skipped: 1"} <= set(lines)


def test_a_probe_that_fails_leaves_the_size_of_chunks_as_it_was(monkeypatch):
    module = import_script(FOLDER / "gpu_parts" / "probe.py")
    before = module.token_loss.GPU_LOGITS
    probe = module.Probe(SimpleNamespace(options=SimpleNamespace(device="cpu", toy=True)))
    monkeypatch.setattr(module, "run_backward", lambda *_: None)
    figures = module.probe_head_and_loss(probe)
    for _ in range(3):
        next(figures)
    monkeypatch.delattr(module, "run_backward")
    with pytest.raises(NameError):
        list(figures)
    assert before == module.token_loss.GPU_LOGITS


def test_a_row_that_leaves_the_expected_tokens_at_a_tie_counts_as_the_same():
    module = import_script(FOLDER / "gpu_parts" / "generate.py")
    logits = module.torch.tensor([0.0, 1.0, 1.0 + module.MAX_TIE / 2, 3.0])
    expected = module.torch.tensor([[*[0] * module.PROMPT_LENGTH, 3, 1, 3]] * 3)

    def reference(tokens):
        return SimpleNamespace(logits=logits.expand(1, tokens.shape[1], 4))

    for second, same in ((1, 3), (2, 3), (0, 2)):  # equal, a tie, another token
        answers = [[3, second, 3], [3, 1, 3], [3, 1, 3]]
        assert module.count_same_rows(answers, expected, reference) == same


def test_the_table_of_every_task_goes_on_after_a_command_that_fails(monkeypatch, capfd):
    module = import_script(FOLDER / "every_task.py")
    assert {"task=speak", "task=summarize", "experiment=video"} <= set(module.plain_commands())
    monkeypatch.setattr(module, "plain_commands", lambda: ["task=none"])
    monkeypatch.setattr("sys.argv", ["every_task.py"])
    module.main()
    printed = capfd.readouterr()
    assert "| `task=none` | exit code 2 | | | | |" in printed.out.splitlines()
    assert "task=none" in printed.err
    result = {
        "primary_metric": "test/f1",
        "metrics": {"test/f1": 0.5, "test/baseline/f1": 0.25},
        "train_seconds": 61.2,
        "steps": 7,
    }
    folder = SimpleNamespace(result=lambda: result)
    row = module.Measurement("task=some", folder, 100.4, 180.0).row()
    assert row == "| `task=some` | test/f1 0.5 (baseline 0.25) | 100 | 61 | 180 | 7 |"
