"""The records of a run on its page."""

import json

import pytest

from gptexp.pages.records import history_html
from gptexp.runs.run_folder import RunFolder


@pytest.mark.parametrize(
    ("step", "text"),
    [(1200, "the next start goes on after step 1,200"), (0, "the next one starts anew")],
)
def test_a_process_that_was_killed_has_a_line_with_the_step_of_the_next_start(
    own_folder, step, text
):
    folder = RunFolder(own_folder)
    events = [{"status": "running", "step": 0}, {"status": "running", "step": step}]
    folder.history_file.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert f"<td>killed</td><td></td><td>ended without a word; {text}</td>" in history_html(folder)
