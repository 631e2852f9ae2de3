import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gptexp import compare
from gptexp.runs.sweep_folder import JobEntry, SweepFolder

LOW = [float(number % 7) for number in range(40)]
HIGH = [score + 2 + (number % 3) / 4 for number, score in enumerate(LOW)]
HOSTILE = "</script><img src=x onerror=\"document.title='broken'\">\x1b[2J"


@pytest.fixture
def two_runs(make_run):
    make_run("translate-nano-a", LOW)
    run = make_run("translate-nano-b", HIGH, optim__lr=0.02)
    rows = run.scores()
    for row in rows:
        row |= {"input": HOSTILE, "output": HOSTILE}
    run.write_scores(rows)
    return ["translate-nano-a", "translate-nano-b"]


def test_two_runs_are_compared_in_words_and_numbers(verb, two_runs, own_folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = verb(compare, *two_runs, "--csv", "table.csv")
    assert "optim.lr  0.01  0.02" in text
    assert "the same: data t; held-out data " in text
    assert "better +2.24 (" in text
    assert "this speaks of these two models" in " ".join(text.split())
    assert "test/f1 of 40 examples: B wins 40, loses 0, ties 0" in text
    assert "\x1b" not in text
    rows = list(csv.DictReader((own_folder / "table.csv").read_text().splitlines()))
    assert [row["verdict"] for row in rows] == ["", "better"]
    assert float(rows[1]["difference_mean"]) == pytest.approx(2.24375)


def test_many_runs_have_a_line_each(verb, make_run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    for number in range(6):
        make_run(f"run{number}", [score + number for score in LOW], optim__lr=number / 100)
    lines = verb(compare, "run*").splitlines()
    assert [line.split()[-1] for line in lines if "optim.lr=" in line] == [
        f"optim.lr={number / 100}" for number in range(6)
    ]
    assert max(map(len, lines)) <= 100


def test_json_has_numbers_and_words(verb, two_runs):
    values = json.loads(verb(compare, *two_runs, "--json", "--margin", "50"))
    [row] = values["metrics"]
    assert row["verdicts"][1]["word"] == "no difference that matters"
    assert row["summaries"][0]["mean"] == pytest.approx(sum(LOW) / 40)
    assert values["subjects"][1]["runs"] == ["outputs/translate-nano-b"]


def test_the_page_shows_hostile_texts_as_texts(verb, two_runs, own_folder, open_page):
    verb(compare, *two_runs, "--html", "page.html")
    page = open_page(own_folder / "page.html", width=390)
    assert page.title() == "Comparison"
    assert page.locator("h1").inner_text() == "B against A: better"
    assert HOSTILE.partition("\x1b")[0] in page.locator("#examples").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_sweep_alone_prints_its_table(verb, two_runs, own_folder):
    sweep = SweepFolder.create(Path("outputs/sweep-lr-1"), command=[], keys=["optim.lr"])
    for number, (name, lr) in enumerate(zip(two_runs, (0.01, 0.02), strict=True), 1):
        sweep.add(JobEntry(number, [f"optim.lr={lr}"], "finished", run=name))
    for name in ("sweep-lr-1", "latest"):
        text = verb(compare, name)
        assert text.startswith("sweep-lr-1: 2 jobs (2 finished)\n")
        assert text.index("optim.lr=0.02") < text.index("optim.lr=0.01")
    code, text = verb(compare, "sweep-lr-2")
    assert (code, "Did you mean 'sweep-lr-1'?" in text) == (2, True)
    values = json.loads(verb(compare, "sweep-lr-1", "--json", "--html", "sweep.html"))
    assert "optim.lr=0.02" in (own_folder / "sweep.html").read_text()
    assert [row["is_best"] for row in values["rows"]] == [True, False]
    assert values["runs"] == {"1": "outputs/translate-nano-a", "2": "outputs/translate-nano-b"}


def test_the_page_of_a_sweep_has_the_margin_of_the_command(verb, two_runs, own_folder):
    sweep = SweepFolder.create(Path("outputs/sweep-lr-1"), command=[], keys=["optim.lr"])
    for number, (name, lr) in enumerate(zip(two_runs, (0.01, 0.02), strict=True), 1):
        sweep.add(JobEntry(number, [f"optim.lr={lr}"], "finished", run=name))
    text = verb(compare, "sweep-lr-1", "--margin", "50", "--html", "sweep.html")
    for shown in (text, (own_folder / "sweep.html").read_text()):
        assert "no difference that matters" in shown


def damage(file, change):
    values, end = json.JSONDecoder().raw_decode(text := file.read_text())
    change(values)
    file.write_text(json.dumps(values) + text[end:])


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("result.json", lambda x: x.update(metrics=None), "metrics: null is not an object"),
        ("result.json", lambda x: x["metrics"].update(a="b"), 'metrics, a: "b" is not a number'),
        ("environment.json", lambda x: x.update(versions=None), "versions: null is not an object"),
        ("scores.jsonl", lambda x: x.pop("unit"), "unit: null is not a text"),
        ("config.yaml", lambda x: x.update(model=None), "model: null is not a group of settings"),
    ],
)
def test_a_record_of_another_program_is_named(verb, two_runs, file, change, reason):
    damage(Path("outputs") / two_runs[0] / file, change)
    code, text = verb(compare, "outputs/*")
    assert code == 2
    assert f"outputs/{two_runs[0]}/{file}" in text
    assert reason in text


def test_mistakes_are_answered_before_anything_is_read(verb, two_runs):
    for words, message in {
        (): "nothing to compare",
        ("translate-nano-a",): "is one run, and nothing to compare it with",
        ("translate-nano-a", "missing"): "Runs here: outputs/translate-nano-a",
        ("latest",): "Sweeps here: none",
        (*two_runs, "--margin", "-1"): "--margin -1: must be a number from 0 on",
        (*two_runs, "--csv", "nowhere/table.csv"): "--csv nowhere/table.csv: the folder",
        (*two_runs, "--html", "outputs"): "--html outputs: is a folder",
    }.items():
        code, text = verb(compare, *words)
        assert code == 2, words
        assert message in text


def test_comparing_and_watching_import_no_torch():
    code = (
        "import sys, gptexp.comparing.compare_runs, gptexp.comparing.sweep_results, gptexp.watch\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
