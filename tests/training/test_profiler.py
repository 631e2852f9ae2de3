import gzip
import json
from pathlib import Path

import pytest

from gptexp.errors import RunError, UserError
from gptexp.run import run


def test_a_profile_leaves_a_trace_and_a_table(translation, capsys):
    folder = run(translation("trainer.profile=2", "trainer.max_steps=7", "trainer.val_every=7"))
    table = (folder.path / "profile.txt").read_text()
    assert "ProfilerStep*" in table
    assert "aten::" in table
    with gzip.open(folder.path / "trace.json.gz") as file:
        names = {event["name"] for event in json.load(file)["traceEvents"]}
    assert len([name for name in names if name.startswith("ProfilerStep#")]) == 2
    line = [line for line in capsys.readouterr().err.splitlines() if "profile of" in line]
    assert line == [
        f"profile of steps 5 to 6: {folder.path}/profile.txt has the most expensive operations, "
        f"{folder.path}/trace.json.gz opens in https://ui.perfetto.dev"
    ]


def test_a_run_that_ends_before_its_profile_writes_none(translation, capsys):
    """It is refused before the run; a run that ends early keeps nothing, for a signal leaves no time to write."""
    with pytest.raises(UserError, match=r"trainer.profile=9: .* it needs trainer.max_steps=13 or"):
        translation("trainer.profile=9")
    with pytest.raises(RunError, match="not finite"):
        run(translation("trainer.profile=5", "optim=adamw", "optim.lr=1e30", "optim.grad_clip=0"))
    assert "nothing was written, for the run ended before step 9" in capsys.readouterr().err
    assert not list(Path("outputs").glob("*/profile.txt"))
