import subprocess
import sys


def test_torchmetrics_comes_without_packages_that_are_optional_for_it():
    script = """
import sys
from gptexp.optional_imports import OPTIONAL, hide_optional_packages
from lightning_utilities.core.imports import RequirementCache

with hide_optional_packages():
    import torchmetrics
assert not set(OPTIONAL) & set(sys.modules), OPTIONAL
from torchmetrics.functional.text import word_error_rate
assert word_error_rate("a b", "a c") == 0.5
assert RequirementCache("transformers>=4")
"""
    subprocess.run([sys.executable, "-c", script], check=True)
