"""Single computations on a GPU. A machine without one runs the checks on its CPU, to see that they fit the package."""

import json
import os
import subprocess
import sys

import gpu_checks
import pytest
from conftest import GPUS


@pytest.fixture(scope="module")
def outcomes():
    """The errors of all checks; on a GPU, of one process that sees it."""
    if not GPUS:
        return {}
    done = subprocess.run(
        [sys.executable, gpu_checks.__file__],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": GPUS[0]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", gpu_checks.CHECKS)
def test_a_computation_is_right_on_this_machine(name, outcomes, monkeypatch):
    if not GPUS:
        monkeypatch.setattr(gpu_checks, "DEVICE", "cpu")
        gpu_checks.CHECKS[name]()
    else:
        assert outcomes[name] is None, outcomes[name]
