"""The page of a comparison, beside the tests of `gptexp compare`."""

import json

import pytest

from gptexp.comparing.compare_runs import compare
from gptexp.comparing.subjects import Subject
from gptexp.pages import comparison_page


@pytest.fixture
def runs(make_run):
    runs = [make_run(f"run-{number}", [1.0, number]) for number in range(4)]
    for run in runs:
        run.append_metrics({"step": 1, "train/loss": 2.0})
        run.write_samples([{"input": "a", "reference": "b", "output": run.name}])
    return runs


def test_a_page_of_many_runs_has_the_curves_and_samples_of_the_first(runs, monkeypatch, own_folder):
    monkeypatch.setattr(comparison_page, "MAX_RUNS", 3)
    subjects = [Subject(run.name, (run,)) for run in runs]
    page = comparison_page.format_comparison_page(compare(subjects), "compare", own_folder)
    charts = json.loads(page.split('id="charts">')[1].split("</script>")[0])
    assert len(charts["charts"]["loss"]["series"]) == 3
    assert "Those of the first 3 runs are drawn; 1 more is not." in page
    assert "Those of the first 3 subjects are shown; 1 more is not." in page
    assert page.count("output, ") == 3


def test_the_seeds_of_one_config_are_one_subject(runs, own_folder):
    comparison = compare([Subject("a", tuple(runs))])
    page = comparison_page.format_comparison_page(comparison, "compare", own_folder)
    assert "<h1>1 subject</h1>" in page
