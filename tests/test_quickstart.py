"""The notebook examples/quickstart.ipynb runs as it stands, and has its outputs stored."""

import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"


def code_cells():
    cells = json.loads(NOTEBOOK.read_text("utf8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_runs(capsys):
    names = {}
    for cell in code_cells():
        exec("".join(cell["source"]), names)
    assert names["run"].result()["metrics"]["test/exact_match"] > 0.8
    assert "\nQwen3ForCausalLM\n" in capsys.readouterr().out
    assert names["load"]("dates")("4 July 1999") == names["model"]("4 July 1999")


def test_its_outputs_are_stored():
    for cell in code_cells():
        assert cell["outputs"]
        assert all(output["output_type"] != "error" for output in cell["outputs"])
