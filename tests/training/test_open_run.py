from contextlib import ExitStack

import pytest

from gptexp.config.compose import compose_config
from gptexp.errors import UserError
from gptexp.training.open_run import open_run


@pytest.mark.parametrize("outputs", ["file", "file/runs"])
def test_a_file_in_the_place_of_the_folder_of_runs_is_named(outputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"outputs={outputs}: file is a file"), ExitStack() as stack:
        open_run(compose_config([f"outputs={outputs}"]), "", stack)
