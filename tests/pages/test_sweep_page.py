"""The page of a sweep, and pages about several runs."""

import json

import pytest
from page_runs import HOSTILE, read_charts, write_run

from gptexp import report
from gptexp.pages.sweep_page import write_sweep_page
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
    page = open_page(write_sweep_page(sweep), width=390, color_scheme="dark")
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
