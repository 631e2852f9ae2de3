import re
import time

import pytest

from gptexp import stages
from gptexp.data.progress import track_progress
from gptexp.stages import stage


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    monkeypatch.setattr(stages, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(stages, "SECONDS_BETWEEN_LINES", 0.1)
    monkeypatch.setattr(stages, "POLL_SECONDS", 0.01)


def wait_for_lines(capsys, lines):
    """Wait until so many lines are on stderr, and return all of them."""
    text, deadline = "", time.monotonic() + 20
    while text.count("\n") < lines and time.monotonic() < deadline:
        time.sleep(0.005)
        text += capsys.readouterr().err
    return text.splitlines()


def test_a_long_stage_is_reported_again_and_again(capsys):
    with stage("encoding"):
        lines = wait_for_lines(capsys, 2)
    assert [line.split(" (")[0] for line in lines] == ["encoding", "encoding"]


def test_a_short_stage_prints_nothing(capsys, monkeypatch):
    monkeypatch.setattr(stages, "FIRST_SECONDS", 60)
    with stage("encoding"):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_the_innermost_stage_is_the_one_that_is_reported(capsys):
    with stage("outside"):
        with stage("inside"):
            lines = wait_for_lines(capsys, 1)
        with stage("a bar", is_quiet=True):
            time.sleep(0.15)
        lines += wait_for_lines(capsys, 1)
    assert [line.split(" (")[0] for line in lines] == ["inside", "outside"]


def test_a_pass_over_data_reports_how_far_it_is(capsys):
    items = track_progress(range(3000), "reading", total=3000)
    for _ in range(1200):
        next(items)
    [line, *_] = wait_for_lines(capsys, 1)
    assert re.fullmatch(r"reading: 1,199 of 3,000 examples, \d+ s left \(\d+ s\)", line)
    items.close()
    assert not stages.WATCHER.stages


def test_a_pass_begins_with_the_first_item_of_a_source_that_reports_its_own_work(capsys):
    def read():
        with stage("parsing"):
            lines.extend(wait_for_lines(capsys, 1))
        yield from range(2)

    lines: list[str] = []
    items = track_progress(read(), "reading")
    next(items)
    lines += wait_for_lines(capsys, 1)
    items.close()
    assert [line.split(" (")[0] for line in lines] == ["parsing", "reading: 0 examples"]
