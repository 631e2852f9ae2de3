"""The tests that need a GPU, a file or a part of one. Outcomes count as they come: a part that is stopped keeps them.

python benchmarks/gpu.py --only tests-computations tests-runs tests-compiled-runs
"""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from measuring import Part, kill

TESTS = Path(__file__).parents[2] / "tests" / "gpu"
OUTCOME = re.compile(r"\S+?::(\S.*?) (PASSED|FAILED|ERROR|SKIPPED)\b")
KINDS = {"PASSED": "passed", "FAILED": "failed", "ERROR": "failed", "SKIPPED": "skipped"}


def main() -> None:
    part = Part(
        __doc__,
        ("file", {"help": "a file of tests/gpu"}),
        ("--names", {"default": "", "help": "tests whose names match, as pytest's -k"}),
    )
    if find_spec("pytest") is None:
        sys.exit("pytest is not installed")
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider"]
    command += ["-k", part.options.names, str(TESTS / part.options.file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    counts = dict.fromkeys(KINDS.values(), 0)
    try:
        with process.stdout:
            for line in process.stdout:
                print(line, end="", flush=True)
                if match := OUTCOME.match(line):
                    name, outcome = match.groups()
                    counts[KINDS[outcome]] += 1
                    if KINDS[outcome] == "failed":
                        part.report("failed test", name)
        code = process.wait()
    finally:  # SIGTERM ends the loop, too
        for kind, count in counts.items():
            part.report(kind, count)
        kill(process)
    if code not in (0, 1):  # 1: a test fails
        sys.exit(f"pytest: exit code {code}")


if __name__ == "__main__":
    main()
