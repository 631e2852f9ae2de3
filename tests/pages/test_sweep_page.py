"""The page of a sweep, and pages about several runs."""

import json

import pytest
from page_runs import HOSTILE, read_charts, write_run

from gptexp import report
from gptexp.comparing.sweep_results import sweep_results
from gptexp.pages.sweep_page import format_sweep_page, write_sweep_page
from gptexp.runs.sweep_folder import JobEntry, SweepFolder

COMMAND = ["gptexp", "run", "-m", "optim.lr=0.01,0.02,0.3", "seed=1,2"]


@pytest.fixture
def sweep(own_folder):
    """Two configs with two seeds, and one whose jobs end without a result."""
    outputs = own_folder / "outputs"
    folder = SweepFolder.create(
        outputs / "sweep-lr-5e6f7a8b", command=COMMAND, keys=["optim.lr"], seeds=[1, 2], n_jobs=6
    )
    for number, (lr, seed) in enumerate(
        [(lr, seed) for lr in (0.01, 0.02, 0.3) for seed in (1, 2)]
    ):
        words, name = [f"optim.lr={lr}", f"seed={seed}"], f"translate-nano-{number}"
        shift = 10 * (lr == 0.02) + seed / 10 + number % 3 / 100
        run = write_run(outputs / name, seed, lr, shift, finished=lr < 0.3)
        run.report_file.write_text("page")
        if lr < 0.3:
            folder.add(JobEntry(number + 1, words, "finished", name))
        else:
            state = "failed" if seed == 1 else "pruned"
            folder.add(JobEntry(number + 1, words, state, name, f"hopeless {HOSTILE}", 1))
    return folder


def test_the_page_of_a_sweep_has_its_best_config_its_verdicts_and_its_reasons(sweep, open_page):
    page = open_page(write_sweep_page(sweep, sweep_results(sweep)), width=390, color_scheme="dark")
    assert page.locator(".headline .big").inner_text() == "71.66"
    assert "optim.lr=0.02" in page.locator(".headline pre").inner_text()
    rows = page.locator("#configs tbody tr")
    assert [rows.nth(number).locator("th").inner_text() for number in range(3)] == [
        "optim.lr=0.02",
        "optim.lr=0.01",
        "optim.lr=0.3",
    ]
    assert "worse" in rows.nth(1).inner_text()
    assert page.locator("path.curve").count() == 12
    page.get_by_role("button", name="optim.lr=0.3").click()
    assert page.locator("path.curve").count() == 8
    jobs = page.locator("#jobs tbody tr")
    assert HOSTILE in jobs.nth(4).inner_text()
    assert jobs.nth(5).locator(".status").inner_text() == "pruned"
    page.locator("#jobs a").first.click()
    assert page.url.endswith("translate-nano-0/report.html")


def test_the_verb_writes_the_page_of_a_run_of_a_sweep_and_of_several(sweep, verb, own_folder):
    outputs = sweep.path.parent
    assert verb(report, sweep.name) == f"outputs/{sweep.name}/report.html"
    assert "sweep of 6 jobs" in sweep.report_file.read_text()
    written = json.loads(verb(report, "translate-nano-1", "--html", "mine.html", "--json"))
    assert written == {"page": "mine.html", "bytes": (own_folder / "mine.html").stat().st_size}
    assert (outputs / "translate-nano-1" / "report.html").read_text() == "page"
    assert verb(report, "translate-nano-0", "translate-nano-2", "translate-nano-4") == "report.html"
    text = (own_folder / "report.html").read_text()
    assert len(read_charts(text)["charts"]["loss"]["series"]) == 6
    assert text.count("output, ") == 4  # of two samples, side by side
    assert "is not finished (failed" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--html", "."], "--html .: is a folder; give a file"),
        (["--html", "no/where.html"], "no/where.html: the folder"),
        (["nothing-here"], "nothing-here: not a run folder"),
        (["--format", "pdf"], "--format: there is no such option"),
    ],
)
def test_a_mistake_is_answered_with_what_is_accepted(words, message, verb):
    code, text = verb(report, *words)
    assert code == 2
    assert message in text


def make_sweep(folder, name, keys, configs):
    """A sweep whose jobs are (words, run or None), one config a job."""
    sweep = SweepFolder.create(folder / "outputs" / name, command=["gptexp", "run"], keys=keys)
    for number, (words, run) in enumerate(configs, 1):
        state = "finished" if run else "failed"
        sweep.add(JobEntry(number, words, state, run.name if run else None))
    return sweep


def test_the_page_of_a_search_shows_its_settings_as_lines_and_their_importance(
    own_folder, make_run, open_page
):
    configs = []
    for number in range(12):
        rate, kind = 0.001 * 2**number, ["adamw", HOSTILE][number % 2]
        words = [f"optim.lr={rate}", f"optim.kind={kind}"]
        configs.append((words, make_run(f"r{number}", [50 + number // 4, 52], optim__lr=rate)))
    configs.append((["optim.lr=9", "optim.kind=adamw"], None))
    sweep = make_sweep(own_folder, "sweep-search-1", ["optim.lr", "optim.kind"], configs)
    page = open_page(write_sweep_page(sweep, sweep_results(sweep)), width=390, color_scheme="dark")
    importance = page.locator("#settings .full tbody tr").all_inner_texts()
    assert [row.split() for row in importance] == [
        ["optim.lr", "100", "%", "18", "%", "3", "ranges"],
        ["optim.kind", "0", "%", "9", "%", "2", "values"],
    ]
    lines = page.locator(".line")
    assert lines.count() == 12
    labels = lines.last.locator(".value-label")
    assert labels.first.evaluate("node => getComputedStyle(node).visibility") == "hidden"
    lines.last.focus()
    assert labels.first.evaluate("node => getComputedStyle(node).visibility") == "visible"
    assert lines.first.evaluate("node => getComputedStyle(node).opacity") != "1"
    assert labels.last.text_content() == "52"  # the best, drawn above the others
    assert "1 config without a result" in page.locator("#settings").inner_text()
    assert "optim.lr (log)" in page.locator(".parallel").text_content()
    page.locator("#settings summary").click()
    assert page.locator("#settings details tbody tr").count() == 12
    assert page.title() == "sweep-search-1"
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_page_of_a_grid_of_two_settings_has_a_heat_map(own_folder, make_run):
    configs = []
    for row, rate in enumerate(("0.01", "0.1", "0.02")):
        for column, kind in enumerate(("adamw", "muon")):
            name = f"{kind}-{row}"
            run = make_run(name, [10.0 * row + column] * 2) if name != "muon-2" else None
            configs.append(([f"optim.lr={rate}", f"optim.kind={kind}"], run))
    sweep = make_sweep(own_folder, "sweep-grid-1", ["optim.lr"], configs)
    text = format_sweep_page(sweep, sweep_results(sweep))
    heat = text.partition('class="heat"')[2].partition("</table>")[0]
    assert heat.index("0.01<") < heat.index("0.02<") < heat.index("0.1<")
    assert 'class="number shade-8" title="20"><b>20</b>' in heat
    assert 'class="note">failed<' in heat
    assert "5 configs are too few for 3 values: it takes 6" in text
    assert "svg" not in heat


def test_the_page_of_a_ladder_has_the_fit_the_check_and_the_prediction(
    own_folder, make_run, open_page
):
    configs = []
    for number, flops in enumerate((1e12, 3e12, 1e13, 3e13, 1e14)):
        loss = 2 + 2 * (flops / 1e13) ** -0.2 + 0.002 * (-1) ** number
        run = make_run(f"rung-{number}", None, {"test/loss": loss}, texts=HOSTILE)
        run.update_result(parameters=number, primary_metric="test/loss", higher_is_better=False)
        run.metrics_file.write_text(json.dumps({"step": 1, "flops": flops, "train/loss": 3}) + "\n")
        configs.append(([f"experiment=rung_{number}"], run))
    sweep = make_sweep(own_folder, "sweep-ladder-1", ["experiment"], configs)
    assert "4 times the largest" in format_sweep_page(sweep, sweep_results(sweep))
    laws = {"flops": {"loss": 3.1, "low": 3.0, "high": 3.2}}
    entry = {"date": "2026-11-27T03:31:00+0000", "run": HOSTILE, "metric": "test/loss"}
    kept = json.dumps({**entry, "size": {"flops": 3e14}, "laws": laws})
    (sweep.path / "predictions.jsonl").write_text(f"{kept}\n{kept[:50]}\n")
    page = open_page(write_sweep_page(sweep, sweep_results(sweep)), width=390)
    points = page.locator("#scaling .point")
    assert points.count() == 6
    points.last.focus()
    assert "predicted 3.1, 95 % interval 3 to 3.2" in points.last.text_content()
    tip = points.last.locator(".tip-label").last
    assert tip.evaluate("node => getComputedStyle(node).visibility") == "visible"
    assert "which covers the measured" in page.locator("#scaling").inner_text()
    assert (
        page.locator("#settings").count() == 0
    )  # one swept setting: the table of configs shows it
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    configs[0][1].update_result(parameters=1)  # two configs of one size
    assert 'id="scaling"' not in format_sweep_page(sweep, sweep_results(sweep))
