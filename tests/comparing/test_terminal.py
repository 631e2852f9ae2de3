"""Comparisons as text for a terminal."""

from gptexp.comparing.compare_runs import compare
from gptexp.comparing.subjects import Subject
from gptexp.comparing.terminal import comparison_text

ESCAPE = "\x1b[2J"


def test_no_text_of_a_run_controls_the_terminal(make_run):
    runs = [
        make_run(name, [1.0, value], {f"test/{ESCAPE}": 1.0}, task__kind=ESCAPE + name)
        for name, value in (("a", 2.0), ("b", 3.0))
    ]
    runs[1].write_record("environment", versions={ESCAPE: ESCAPE}, source=ESCAPE, python=ESCAPE)
    runs.append(make_run("c"))
    runs[2].update_result(status="failed", error=ESCAPE)
    subjects = [Subject(ESCAPE + run.name, (run,)) for run in runs]
    for count in (2, 3):
        text = comparison_text(compare(subjects[:count]))
        assert "\x1b" not in text
        assert "<U+001B>[2J" in text
