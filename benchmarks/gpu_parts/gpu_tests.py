"""The tests that need a GPU.

python benchmarks/gpu.py --only tests
"""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path

from measuring import Part

TESTS = Path(__file__).parents[2] / "tests" / "gpu"
KINDS = ("failures", "errors", "skipped")


def main() -> None:
    part = Part(__doc__)
    if find_spec("pytest") is None:
        sys.exit("pytest is not installed")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", str(TESTS)]
        process = subprocess.run([*command, "-p", "no:cacheprovider"], check=False)
        if not report.is_file():
            sys.exit(f"pytest: exit code {process.returncode}")
        suite = ElementTree.parse(report).getroot()[0]
    counts = {kind: int(suite.get(kind, 0)) for kind in KINDS}
    part.report("passed", int(suite.get("tests", 0)) - sum(counts.values()))
    part.report("failed", counts["failures"] + counts["errors"])
    part.report("skipped", counts["skipped"])
    for case in suite.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            part.report("failed test", case.get("name"))


if __name__ == "__main__":
    main()
