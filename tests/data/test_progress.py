"""Progress is visible in notebooks, also without ipywidgets."""

import subprocess
import sys

SCRIPT = """
import sys, types

ipython = types.ModuleType("IPython")
ipython.get_ipython = lambda: types.SimpleNamespace(config={"IPKernelApp": {}})
for name in ("ipykernel", "ipykernel.zmqshell"):
    sys.modules[name] = types.ModuleType(name)
sys.modules.update(IPython=ipython, ipywidgets=None)
from gptexp.data.progress import is_interactive, tqdm

print(is_interactive(), list(tqdm(range(3), "training")))
"""


def test_a_notebook_without_widgets_shows_the_bar_as_text():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True [0, 1, 2]\n"
    assert "training: 100%" in done.stderr
    assert "Warning" not in done.stderr
