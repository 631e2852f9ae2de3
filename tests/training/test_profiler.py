import gzip
import json

import pytest

from gptexp.errors import UserError
from gptexp.run import run


def test_a_profile_leaves_a_trace_and_a_table(translation, capsys):
    folder = run(translation("trainer.profile=2", "trainer.max_steps=7", "trainer.val_every=7"))
    table = (folder.path / "profile.txt").read_text()
    assert "ProfilerStep*" in table
    assert "aten::" in table
    with gzip.open(folder.path / "trace.json.gz") as file:
        names = {event["name"] for event in json.load(file)["traceEvents"]}
    assert len([name for name in names if name.startswith("ProfilerStep#")]) == 2
    line = [line for line in capsys.readouterr().err.splitlines() if "profile" in line]
    assert line == [
        f"profile of steps 5 to 6: {folder.path}/profile.txt has the most expensive operations, "
        f"{folder.path}/trace.json.gz opens in https://ui.perfetto.dev"
    ]


def test_a_profile_that_needs_more_steps_is_refused(translation):
    with pytest.raises(UserError, match=r"trainer.profile=9: .* it needs trainer.max_steps=13 or"):
        translation("trainer.profile=9")
